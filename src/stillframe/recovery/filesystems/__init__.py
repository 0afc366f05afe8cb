"""File systems inside disks, read without mounting them.

``volumes.open_volumes`` finds partitions and logical volumes, ``opening.open_file_system`` opens what lies
in one, and every file system answers to the one interface in ``interface``. The parsers run without root and
without a kernel. What they read was written by a guest and is hostile input.
"""
