"""Bringing data back: disks, single files, mounts."""
