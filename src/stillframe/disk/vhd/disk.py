"""What all VHDs share, and the fixed one: its data, then a footer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

from stillframe.disk.facts import FormatFacts
from stillframe.disk.ranges import Untracked, check_range, descriptor_of, file_extents
from stillframe.disk.reader import RandomReader
from stillframe.disk.still import Extent, Geometry
from stillframe.disk.vhd.footer import FoundFooter
from stillframe.errors import CorruptInputError


class VhdDisk(Untracked, ABC):
    """A virtual hard disk image, of its footer's current size (the geometry counts for nothing)."""

    def __init__(self, reader: RandomReader, found: FoundFooter) -> None:
        self._reader = reader
        self._found = found
        self._geometry = Geometry(found.footer.current_size_bytes)

    @property
    def unique_id(self) -> bytes:
        """The footer's id as stored: what a child's parent id is compared with."""
        return self._found.footer.unique_id

    @property
    def disk_id(self) -> str:
        return self._found.footer.disk_id

    @property
    def geometry(self) -> Geometry:
        return self._geometry

    @property
    def name(self) -> str:
        return self._reader.name

    @property
    @abstractmethod
    def facts(self) -> FormatFacts: ...

    @abstractmethod
    def extents_within(self, start_bytes: int, end_bytes: int) -> Iterator[Extent]:
        """``extents`` cut to a part of the disk."""

    @abstractmethod
    def read_into(self, offset_bytes: int, buffer: memoryview) -> None: ...

    def extents(self) -> Iterator[Extent]:
        return self.extents_within(0, self._geometry.size_bytes)

    def close(self) -> None:
        self._reader.close()

    def _creator(self) -> str:
        footer = self._found.footer
        name = footer.creator.decode("ascii", errors="replace").strip(" \0")
        return f"{name} {footer.creator_version >> 16}.{footer.creator_version & 0xFFFF}"

    def _notes(self) -> tuple[str, ...]:
        saved = "the machine was in a saved state" if self._found.footer.saved_state else ""
        return tuple(note for note in (self._found.note, saved) if note)


class FixedVhd(VhdDisk):
    """Raw data with a footer behind it."""

    def __init__(self, reader: RandomReader, found: FoundFooter) -> None:
        """Own ``reader`` unless this fails.

        Raises:
            CorruptInputError: the file is shorter than the disk.
        """
        super().__init__(reader, found)
        size_bytes = found.footer.current_size_bytes
        if size_bytes > found.offset_bytes:
            raise CorruptInputError(
                f"{reader.name}: is a fixed VHD of {size_bytes} bytes with its footer at {found.offset_bytes}"
            )
        self._descriptor = descriptor_of(reader)

    @property
    def facts(self) -> FormatFacts:
        return FormatFacts("vhd", "fixed", creator=self._creator(), notes=self._notes())

    def extents_within(self, start_bytes: int, end_bytes: int) -> Iterator[Extent]:
        return file_extents(self._descriptor, start_bytes, end_bytes)

    def read_into(self, offset_bytes: int, buffer: memoryview) -> None:
        check_range(self._geometry, offset_bytes, len(buffer))
        self._reader.read_into(offset_bytes, buffer)
