"""What may be left on a disk after the power went: every legal loss of what was not synced.

The model is harsher than real file systems, so that what survives it survives them:

- Bytes of a file that no ``fdatasync`` has covered may be lost write by write, in any combination; the length
  may be safe where the bytes are not (they read as zeros then); the last write may be torn between sectors.
- Entries of a folder that no ``fsync`` of it has covered may have any of the values that they had since,
  independent of each other; a folder that is lost takes with it all that is below.

One reduction: of temporary files either all names are lost or none, and their bytes do not count, since the
storage never reads them (``MemoryFiles`` makes sure of that) and only ever removes them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, combinations, product
from math import prod
from typing import TypeVar

from stillframe.repository.storage.local import TEMPORARY_FOLDER
from tests.repository.crash.operations import FOLDER, Entry, Operation, Promise, SyncFile, SyncFolder, Write

SECTOR_BYTES = 512
_EVERY_CUT_UP_TO_SECTORS = 8
_Choice = TypeVar("_Choice")
_Place = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Remains:
    """A file system after a crash: files by path, folders, and whether temporary files are left."""

    files: frozenset[tuple[str, bytes]]
    folders: frozenset[str]
    has_temporary_files: bool


class Disk:
    """What is safe, and what is still only in the memory of the machine."""

    def __init__(self) -> None:
        self._entries: dict[_Place, list[int | None]] = {}
        self._safe_bytes: dict[int, bytes] = {}
        self._writes: dict[int, list[Write]] = {}

    def apply(self, operation: Operation) -> None:
        match operation:
            case Entry(folder, name, target):
                self._entries.setdefault((folder, name), [None]).append(target)
            case Write(file):
                self._writes.setdefault(file, []).append(operation)
            case SyncFile(file):
                self._safe_bytes[file] = _written(self._safe_bytes.get(file, b""), self._writes.pop(file, []))
            case SyncFolder(folder):
                self._settle(folder)
            case Promise():
                pass

    def count_losses(self) -> int:
        """How many combinations ``remains`` goes through."""
        places, files = self._uncertain()
        return 2 * prod(map(len, places.values())) * prod(map(len, files.values()))

    def remains(self, limit: int) -> Iterator[Remains]:
        """All that may be left; beyond ``limit`` combinations, all within two losses of all or nothing."""
        places, files = self._uncertain()
        choices: list[Sequence[object]] = [*places.values(), *files.values()]
        combined = product(*choices) if self.count_losses() <= limit else _few_differences(choices)
        for chosen in combined:
            targets = dict(zip(places, chosen, strict=False))
            contents = dict(zip(files, chosen[len(places) :], strict=True))
            for has_temporary_files in (False, True):
                yield self._remaining(targets, contents, has_temporary_files)  # type: ignore[arg-type]

    def _settle(self, folder: str) -> None:
        for place, targets in list(self._entries.items()):
            if place[0] == folder:
                self._entries[place] = targets[-1:]

    def _uncertain(self) -> tuple[dict[_Place, list[int | None]], dict[int, list[bytes]]]:
        """The values that entries and files may have, oldest first."""
        places = {
            place: list(dict.fromkeys(targets))
            for place, targets in self._entries.items()
            if place[0] != TEMPORARY_FOLDER
        }
        named = {target for targets in places.values() for target in targets if target not in (None, FOLDER)}
        files = {file: self._contents(file) for file in named if file is not None}
        return places, files

    def _contents(self, file: int) -> list[bytes]:
        safe = self._safe_bytes.get(file, b"")
        writes = self._writes.get(file, [])
        return list(dict.fromkeys(_surviving(safe, writes)))

    def _remaining(
        self, targets: dict[_Place, int | None], contents: dict[int, bytes], has_temporary_files: bool
    ) -> Remains:
        folders = {path for path in self._folders(targets) if _is_reachable(path, targets)}
        files = {
            (_path(folder, name), contents[target])
            for (folder, name), target in targets.items()
            if target not in (None, FOLDER) and (folder == "." or folder in folders) and target is not None
        }
        return Remains(
            frozenset(files), frozenset(folders), has_temporary_files and TEMPORARY_FOLDER in folders
        )

    def _folders(self, targets: dict[_Place, int | None]) -> Iterator[str]:
        return (_path(*place) for place, target in targets.items() if target == FOLDER)


def _is_reachable(path: str, targets: dict[_Place, int | None]) -> bool:
    folder, _, name = path.rpartition("/")
    is_there = targets.get((folder or ".", name)) == FOLDER
    return is_there and (not folder or _is_reachable(folder, targets))


def _path(folder: str, name: str) -> str:
    return name if folder == "." else f"{folder}/{name}"


def _written(data: bytes, writes: Iterable[Write], length_bytes: int = 0) -> bytes:
    """The bytes after some writes; what lies between them, and up to the length, reads as zeros."""
    result = bytearray(data)
    for write in writes:
        end = write.offset_bytes + len(write.data)
        result.extend(bytes(max(0, end - len(result))))
        result[write.offset_bytes : end] = write.data
    result.extend(bytes(max(0, length_bytes - len(result))))
    return bytes(result)


def _surviving(safe: bytes, writes: Sequence[Write]) -> Iterator[bytes]:
    """What a file may hold: nothing lost comes last."""
    if not writes:
        yield safe
        return
    length_bytes = len(_written(safe, writes))
    for earlier in _subsets(writes[:-1]):
        for last in [(), *_torn(writes[-1]), (writes[-1],)]:
            yield _written(safe, [*earlier, *last])
            yield _written(safe, [*earlier, *last], length_bytes)


def _torn(write: Write) -> Iterator[tuple[Write, ...]]:
    """A write that only a part of the sectors has reached: those up to a cut, or those from it."""
    sectors = -(-len(write.data) // SECTOR_BYTES)
    cuts = range(1, sectors) if sectors <= _EVERY_CUT_UP_TO_SECTORS else (1, sectors // 2, sectors - 1)
    for cut in (sector * SECTOR_BYTES for sector in cuts):
        yield (Write(write.file, write.offset_bytes, write.data[:cut]),)
        yield (Write(write.file, write.offset_bytes + cut, write.data[cut:]),)


def _subsets(items: Sequence[_Choice]) -> Iterator[tuple[_Choice, ...]]:
    return chain.from_iterable(combinations(items, size) for size in range(len(items) + 1))


def _few_differences(choices: list[Sequence[object]]) -> Iterator[tuple[object, ...]]:
    """Nothing lost, everything lost, and all that differs from one of these in at most two places."""
    for base in ([options[-1] for options in choices], [options[0] for options in choices]):
        places = [place for place, options in enumerate(choices) if len(options) > 1]
        for changed in chain([()], combinations(places, 1), combinations(places, 2)):
            for values in product(*(choices[place] for place in changed)):
                different = list(base)
                for place, value in zip(changed, values, strict=True):
                    different[place] = value
                yield tuple(different)
