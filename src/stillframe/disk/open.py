"""Opening any disk file. The format is told by the contents; a file's name proves nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from stillframe.disk.reader import FileReader, RandomReader, read_bytes
from stillframe.disk.still import StillDisk
from stillframe.errors import StillframeError

_VHDX_SIGNATURE = b"vhdxfile"
_QCOW2_MAGIC = b"QFI\xfb"


def open_disk(path: Path, *, search: Sequence[Path] = ()) -> StillDisk:
    """Open a disk file or block device: VHDX, qcow2, VHD, or raw if it is none of them.

    Parents of differencing disks are opened only from their child's own folder and from ``search``.

    Raises:
        UsageError: the file cannot be opened, or a parent is not where it may be looked for.
        CorruptInputError: the file, or a parent, breaks the rules of its format.
        UnsupportedError: the file needs something that this program does not know.
    """
    reader = FileReader(path)
    try:
        return open_reader(reader, path=path, search=search)
    except StillframeError:
        reader.close()
        raise


def open_reader(reader: RandomReader, *, path: Path | None, search: Sequence[Path] = ()) -> StillDisk:
    """``open_disk`` on any reader. The disk owns ``reader``; after an error the caller still does."""
    # Each format is imported only when it is met: most commands open one disk, or none.
    beginning = read_bytes(reader, 0, min(len(_VHDX_SIGNATURE), reader.size_bytes))
    if beginning == _VHDX_SIGNATURE:
        from stillframe.disk.vhdx import open_vhdx

        return open_vhdx(reader, path=path, search=search)
    if beginning.startswith(_QCOW2_MAGIC):
        from stillframe.disk.qcow2 import open_qcow2

        return open_qcow2(reader, path=path)
    from stillframe.disk.vhd import looks_like_vhd, open_vhd

    if looks_like_vhd(reader):
        return open_vhd(reader, path=path, search=search)
    from stillframe.disk.raw import RawDisk

    return RawDisk(reader, path=path)
