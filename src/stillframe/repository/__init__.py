"""The store: commit log, packs, index, disk trees, recovery points, keys, collection, checking."""
