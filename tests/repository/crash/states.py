"""From what a file system was told to every state in which a crash may leave it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.repository.crash.losses import Disk, Remains
from tests.repository.crash.memory_files import MemoryFiles
from tests.repository.crash.operations import Operation, Promise

LIMIT = 20_000
"""Combinations of losses at one moment, beyond which not all of them are looked at."""


@dataclass(frozen=True, slots=True)
class CrashState:
    """What is left, and what had been promised, when the power went after ``operations``."""

    operations: int
    remains: Remains
    promises: tuple[object, ...]

    def files(self) -> MemoryFiles:
        """A file system that has just been mounted, with nothing but what is left."""
        files = dict(self.remains.files)
        if self.remains.has_temporary_files:
            files[".tmp/0123456789abcdef0123456789abcdef"] = b"left over"
        return MemoryFiles(files, self.remains.folders)


def crash_states(
    log: Sequence[Operation], *, since: int = 0, exhaustive: bool = True
) -> Iterator[CrashState]:
    """The states after every prefix of ``since`` operations or more and every legal loss, each once.

    With ``exhaustive``, more losses than ``LIMIT`` at one moment are an error; otherwise they are sampled as
    ``Disk.remains`` says. (What syncs as it should never has many losses open; what forgets to sync does.)
    """
    disk = Disk()
    promises: list[object] = []
    seen: set[tuple[Remains, int]] = set()
    for operations, operation in enumerate([Promise("begin"), *log]):
        disk.apply(operation)
        if isinstance(operation, Promise):
            promises.append(operation.what)
        if operations < since:
            continue
        assert not exhaustive or disk.count_losses() <= LIMIT, (
            f"too many losses after {operations} operations"
        )
        for remains in disk.remains(LIMIT):
            if (remains, len(promises)) not in seen:
                seen.add((remains, len(promises)))
                yield CrashState(operations, remains, tuple(promises[1:]))
