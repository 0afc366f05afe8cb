"""File systems inside disks, read without mounting them."""
