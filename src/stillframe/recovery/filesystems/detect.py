"""What lies in a volume, by its signature; nothing but a few sectors is read.

Offsets and values are those of libblkid, src/superblocks/.
"""

from __future__ import annotations

from typing import Final

from stillframe.disk.reader import RandomReader
from stillframe.recovery.filesystems.readers import peek

_SIGNATURES: Final = (
    ("ntfs", 3, b"NTFS    "),
    ("exfat", 3, b"EXFAT   "),
    ("bitlocker", 3, b"-FVE-FS-"),
    ("refs", 3, b"ReFS\0\0\0\0"),
    ("xfs", 0, b"XFSB"),
    ("luks", 0, b"LUKS\xba\xbe"),
    ("squashfs", 0, b"hsqs"),
    ("ext", 1024 + 56, b"\x53\xef"),
    ("btrfs", 0x10040, b"_BHRfS_M"),
    ("iso9660", 0x8001, b"CD001"),
    ("swap", 4086, b"SWAPSPACE2"),
    ("lvm2", 512, b"LABELONE"),
    ("lvm2", 0, b"LABELONE"),
    ("lvm2", 1024, b"LABELONE"),
    ("lvm2", 1536, b"LABELONE"),
    ("f2fs", 1024, b"\x10\x20\xf5\xf2"),
    ("zfs", 128 << 10, b"\x0c\xb1\xba\x00\x00\x00\x00\x00"),
    ("md-raid", 4096, b"\xfc\x4e\x2b\xa9"),
)


def identify(reader: RandomReader) -> str:
    """The kind of file system or container, or an empty string for nothing known."""
    for kind, offset_bytes, signature in _SIGNATURES:
        if peek(reader, offset_bytes, len(signature)) == signature:
            return kind
    return "fat" if _looks_like_fat(peek(reader, 0, 512)) else ""


def _looks_like_fat(sector: bytes) -> bool:
    """FAT has no magic number; the rules are those of the specification for a valid BIOS parameter block."""
    return (
        sector[510:512] == b"\x55\xaa"
        and sector[0] in {0xEB, 0xE9}
        and int.from_bytes(sector[11:13], "little") in {512, 1024, 2048, 4096}
        and sector[13] in {1, 2, 4, 8, 16, 32, 64, 128}
        and int.from_bytes(sector[14:16], "little") > 0
        and sector[16] in {1, 2}
        and (sector[21] == 0xF0 or sector[21] >= 0xF8)
    )
