"""A file system in memory, as hostile as a test wants it to be."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from stillframe.disk.still import Extent, ExtentKind
from stillframe.errors import CorruptInputError
from stillframe.recovery.files import Found
from stillframe.recovery.filesystems.interface import Entry, EntryKind, FileSystemInfo, Listing, Stream, Times
from stillframe.recovery.filesystems.volumes import Volume


@dataclass
class MemoryFileSystem:
    """Built by ``add``; a name may be anything, and a directory may be added to itself."""

    info: FileSystemInfo = field(default_factory=lambda: FileSystemInfo("memory", "", journal_dirty=False))
    children: dict[int, list[Entry]] = field(default_factory=lambda: {0: []})
    data: dict[int, bytes] = field(default_factory=dict)
    targets: dict[int, str] = field(default_factory=dict)
    attributes: dict[int, dict[str, bytes]] = field(default_factory=dict)
    stream_data: dict[tuple[int, str], bytes] = field(default_factory=dict)
    damaged: set[int] = field(default_factory=set)

    def add(self, name: str, kind: EntryKind = EntryKind.FILE, parent: int = 0, **facts: object) -> Entry:
        node = len(self.children) + len(self.data) + len(self.targets)
        data = bytes(facts.pop("data", b""))  # type: ignore[call-overload]
        entry = Entry(name, node, kind, len(data), Times(1_000_000_007, 2_000_000_009))
        entry = replace(entry, **facts)  # type: ignore[arg-type]
        self.children[parent].append(entry)
        if kind is EntryKind.DIRECTORY:
            self.children[node] = []
        elif kind is EntryKind.SYMLINK:
            self.targets[node] = str(name)
        else:
            self.data[node] = data
        return entry

    def add_stream(self, entry: Entry, parent: int, name: str, data: bytes) -> None:
        self.stream_data[entry.node, name] = data
        entries = self.children[parent]
        streams = (*entry.streams, Stream(name, len(data)))
        entries[entries.index(entry)] = replace(entry, streams=streams)

    def link(self, name: str, target: str, parent: int = 0) -> Entry:
        entry = self.add(name, EntryKind.SYMLINK, parent)
        self.targets[entry.node] = target
        return entry

    def found(self) -> Found:
        volume = Volume("p1", 0, "", "", None)
        return Found(volume, self, self.root(), "/")

    def root(self) -> Entry:
        return Entry("", 0, EntryKind.DIRECTORY, 0)

    def list(self, directory: Entry) -> Listing:
        return Listing(tuple(self.children[directory.node]))

    def read_into(self, file: Entry, offset_bytes: int, buffer: memoryview, stream: str = "") -> None:
        if file.node in self.damaged:
            raise CorruptInputError(f"{file.name}: damaged")
        data = self.stream_data[file.node, stream] if stream else self.data[file.node]
        buffer[:] = data[offset_bytes : offset_bytes + len(buffer)]

    def extents(self, file: Entry, stream: str = "") -> Iterator[Extent]:
        data = self.stream_data[file.node, stream] if stream else self.data[file.node]
        for start in range(0, len(data), 4096):
            piece = data[start : start + 4096]
            yield Extent(start, len(piece), ExtentKind.DATA if any(piece) else ExtentKind.ZERO)

    def symlink_target(self, link: Entry) -> str:
        return self.targets[link.node]

    def xattrs(self, entry: Entry) -> dict[str, bytes]:
        return self.attributes.get(entry.node, {})

    def close(self) -> None:
        pass
