"""Readers for tests: files in memory, with patches, sparse to any size."""

from __future__ import annotations

from collections.abc import Iterable

from stillframe.errors import CorruptInputError


class MemoryReader:
    """Pieces at offsets in a file of any size; the rest is zero. Later pieces lie over earlier ones."""

    def __init__(self, size_bytes: int, pieces: Iterable[tuple[int, bytes]], name: str = "memory") -> None:
        self.pieces = list(pieces)
        self._size_bytes = size_bytes
        self._name = name
        self.reads: list[tuple[int, int]] = []
        self.closed = False

    @property
    def name(self) -> str:
        return self._name

    @property
    def size_bytes(self) -> int:
        return self._size_bytes

    def read_into(self, offset_bytes: int, buffer: memoryview) -> None:
        end = offset_bytes + len(buffer)
        self.reads.append((offset_bytes, len(buffer)))
        if offset_bytes < 0 or end > self._size_bytes:
            raise CorruptInputError(f"{self._name}: {offset_bytes}+{len(buffer)} leaves the file")
        for at in range(0, len(buffer), 1 << 16):
            part = buffer[at : at + (1 << 16)]
            part[:] = bytes(len(part))
        for start, piece in self.pieces:
            low, high = max(start, offset_bytes), min(start + len(piece), end)
            if low < high:
                buffer[low - offset_bytes : high - offset_bytes] = piece[low - start : high - start]

    def close(self) -> None:
        self.closed = True

    def patched(self, *pieces: tuple[int, bytes]) -> MemoryReader:
        return MemoryReader(self._size_bytes, [*self.pieces, *pieces], self._name)

    def cut(self, size_bytes: int) -> MemoryReader:
        return MemoryReader(size_bytes, self.pieces, self._name)
