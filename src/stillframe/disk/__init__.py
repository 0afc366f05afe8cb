"""Virtual disks: formats, extents, chains and geometry. Knows nothing of backup or networks."""
