"""The volumes of a disk: its partitions and logical volumes, or the whole disk where it has no table."""

from __future__ import annotations

from dataclasses import dataclass

from stillframe.disk.reader import RandomReader
from stillframe.disk.still import StillDisk
from stillframe.errors import CorruptInputError, UnsupportedError
from stillframe.recovery.filesystems.detect import identify
from stillframe.recovery.filesystems.lvm import logical_volumes, read_physical_volume
from stillframe.recovery.filesystems.partitions import Partition, has_gpt, read_gpt, read_mbr
from stillframe.recovery.filesystems.readers import DiskReader, WindowReader

WHOLE_DISK = "disk"


@dataclass(frozen=True, slots=True)
class Volume:
    """A range of a disk that may hold a file system.

    ``name`` is ``p1``, ``p2``, ... by partition number, ``lvm:GROUP/VOLUME``, or ``disk``. ``content`` is
    what its signature says (``ext``, ``ntfs``, ``luks``, ..., empty for nothing known). ``trouble`` says why
    it cannot be read at all.
    """

    name: str
    size_bytes: int
    type_name: str
    content: str
    reader: RandomReader | None
    trouble: str = ""

    def open_reader(self) -> RandomReader:
        """The volume's bytes.

        Raises:
            UnsupportedError: the volume lies beyond the disk or in a form that cannot be read.
        """
        if self.reader is None:
            raise UnsupportedError(f"{self.name}: {self.trouble}")
        return self.reader


def open_volumes(disk: StillDisk) -> list[Volume]:
    """All volumes of a disk, in the order of its tables; never empty.

    Raises:
        CorruptInputError: a partition table or LVM2 metadata are damaged.
    """
    whole = DiskReader(disk)
    partitions = _partitions(whole, disk.geometry.logical_sector_bytes)
    if partitions:
        volumes = [_partition_volume(whole, partition) for partition in partitions]
    else:
        volumes = [Volume(WHOLE_DISK, whole.size_bytes, "whole disk", identify(whole), whole)]
    return _with_logical_volumes(volumes)


def is_whole_disk(volumes: list[Volume]) -> bool:
    """Whether a disk has no table, so that its file system is its root."""
    return len(volumes) == 1 and volumes[0].name == WHOLE_DISK


def _partitions(whole: RandomReader, sector_bytes: int) -> list[Partition]:
    if has_gpt(whole, sector_bytes):
        return read_gpt(whole)
    if identify(whole) in {"ntfs", "exfat", "fat", "xfs", "luks", "bitlocker", "refs"}:
        return []  # these begin with a boot sector or magic number of their own, where an MBR would lie
    return read_mbr(whole, sector_bytes)


def _partition_volume(whole: RandomReader, partition: Partition) -> Volume:
    name = f"p{partition.number}"
    try:
        reader = WindowReader(whole, partition.offset_bytes, partition.size_bytes, f"{whole.name} {name}")
    except CorruptInputError:
        trouble = "the partition table places it beyond the end of the disk"
        return Volume(name, partition.size_bytes, partition.type_name, "", None, trouble)
    return Volume(name, partition.size_bytes, partition.type_name, identify(reader), reader)


def _with_logical_volumes(volumes: list[Volume]) -> list[Volume]:
    readers = [volume.reader for volume in volumes if volume.content == "lvm2" and volume.reader]
    physical = [found for reader in readers if (found := read_physical_volume(reader))]
    logical = [
        Volume(
            f"lvm:{volume.group}/{volume.name}",
            volume.size_bytes,
            "LVM2 logical volume",
            identify(volume.reader) if volume.reader else "",
            volume.reader,
            volume.trouble,
        )
        for volume in logical_volumes(physical)
    ]
    return volumes + logical
