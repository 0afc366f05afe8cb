"""VHD: fixed, dynamic and differencing disks, after Microsoft's "Virtual Hard Disk Image Format" 1.0.

Big-endian throughout, 512-byte sectors only, at most 2040 GiB. There is no log: a crash of the writer can
leave a file torn, which the copy of the footer at its beginning survives.
"""

from stillframe.disk.vhd.block_writer import Parent
from stillframe.disk.vhd.chain import open_vhd
from stillframe.disk.vhd.disk import VhdDisk
from stillframe.disk.vhd.footer import looks_like_vhd
from stillframe.disk.vhd.writer import create_vhd

__all__ = ["Parent", "VhdDisk", "create_vhd", "looks_like_vhd", "open_vhd"]
