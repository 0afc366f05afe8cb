"""A file system as the guest's kernel shows it, one request per directory or piece of a file."""

from __future__ import annotations

import os
import re
import stat
import threading
from collections.abc import Iterator
from datetime import datetime
from typing import Final

from stillframe.disk.still import Extent
from stillframe.errors import CorruptInputError
from stillframe.recovery.filesystems.interface import Entry, EntryKind, FileSystemInfo, Listing, Times
from stillframe.recovery.filesystems.unixlike import kind_of
from stillframe.recovery.guest.machine import Guest, GuestRefusedError

_PIECE_BYTES: Final = 8 << 20
_MAX_NAME_BYTES: Final = 255
_MAX_TARGET_BYTES: Final = 4096
_MOUNTED_AT: Final = b"/volume"
_TIME: Final = rb"(\S{1,20} \d\d:\d\d:\d\d)\.(\d{9}) \+0000"
_RECORD: Final = re.compile(
    rb"([0-9a-f]{1,8}) (\d{1,20}) (\d{1,10}) (\d{1,10}) (\d{1,10}) (\d{1,20}) (\d{1,20}) "
    + rb" ".join([_TIME] * 3)
    + rb" (.*)\n",
    re.DOTALL,
)
_NOTES: Final = ("read through a guest: extended attributes and access lists are not shown",)


class GuestFileSystem:
    """Asks a running guest that has mounted the volume. The guest belongs to whoever started it."""

    def __init__(self, guest: Guest, kind: str) -> None:
        self._guest = guest
        self._lock = threading.Lock()
        self._paths: list[bytes] = [b""]
        self._nodes: dict[bytes, int] = {b"": 0}
        self.info = FileSystemInfo(kind, "", journal_dirty=False, notes=_NOTES)

    def root(self) -> Entry:
        (entry,) = self._entries(self._ask("stat", b"/"), b"")
        return entry

    def list(self, directory: Entry) -> Listing:
        path = self._paths[directory.node]
        return Listing(tuple(self._entries(self._ask("list", path + b"/"), path)))

    def read_into(self, file: Entry, offset_bytes: int, buffer: memoryview, stream: str = "") -> None:
        del stream
        if offset_bytes < 0 or offset_bytes + len(buffer) > file.size_bytes:
            raise ValueError(f"{file.name}: {len(buffer)} bytes at {offset_bytes} leave the file")
        for start in range(0, len(buffer), _PIECE_BYTES):
            piece = buffer[start : start + _PIECE_BYTES]
            words = (str(offset_bytes + start), str(len(piece)))
            data = self._ask("read", self._paths[file.node], *words)
            if len(data) != len(piece):
                raise CorruptInputError(f"{file.name}: ends at {offset_bytes + start + len(data)}")
            piece[:] = data

    def extents(self, file: Entry, stream: str = "") -> Iterator[Extent]:
        del stream
        return iter([Extent(0, file.size_bytes)] if file.size_bytes else [])

    def symlink_target(self, link: Entry) -> str:
        target = self._ask("link", self._paths[link.node]).removesuffix(b"\n")
        if not target or len(target) > _MAX_TARGET_BYTES or b"\0" in target:
            raise CorruptInputError(f"{link.name}: its target is no path")
        return os.fsdecode(target)

    def xattrs(self, entry: Entry) -> dict[str, bytes]:
        del entry
        return {}

    def close(self) -> None:
        pass

    def _ask(self, verb: str, path: bytes, *words: str) -> bytes:
        escaped = "".join(f"\\0{byte:03o}" for byte in path)
        try:
            return self._guest.request(verb, *words, escaped)
        except GuestRefusedError as error:
            shown = os.fsdecode(path) or "/"
            raise CorruptInputError(f"{shown}: the guest cannot read it: {error}") from error

    def _entries(self, answer: bytes, parent: bytes) -> Iterator[Entry]:
        """Records begin with a mark that only host and guest know, so no file name can imitate one."""
        mark = self._guest.mark.encode() + b" "
        for number, record in enumerate(answer.split(mark)):
            if number == 0 and not record:
                continue
            match = _RECORD.fullmatch(record)
            if match is None:
                raise CorruptInputError(f"the guest describes a file in {os.fsdecode(parent)}/ wrongly")
            yield self._entry(match, parent)

    def _entry(self, match: re.Match[bytes], parent: bytes) -> Entry:
        mode = int(match[1], 16)
        name = match[14].rpartition(b"/")[2] if match[14] != _MOUNTED_AT + b"/" else b""
        if len(name) > _MAX_NAME_BYTES or b"\0" in name:
            raise CorruptInputError(
                f"the guest names a file in {os.fsdecode(parent)}/ with {len(name)} bytes"
            )
        kind = kind_of(mode)
        shared = kind is not EntryKind.DIRECTORY and int(match[5]) > 1
        return Entry(
            name=os.fsdecode(name),
            node=self._node(parent + b"/" + name if name else b""),
            kind=kind,
            size_bytes=int(match[2]) if kind is EntryKind.FILE else 0,
            times=Times(_ns(match, 10), _ns(match, 8), _ns(match, 12)),
            mode=stat.S_IMODE(mode),
            owner=int(match[3]),
            group=int(match[4]),
            link_key=f"{int(match[6])}:{int(match[7])}" if shared else None,
        )

    def _node(self, path: bytes) -> int:
        with self._lock:
            if path not in self._nodes:
                self._nodes[path] = len(self._paths)
                self._paths.append(path)
            return self._nodes[path]


def _ns(match: re.Match[bytes], group: int) -> int | None:
    """A time as busybox prints it, in nanoseconds since 1970; None beyond the years 1 to 9999."""
    try:
        moment = datetime.fromisoformat(f"{match[group].decode('ascii', 'replace')}+00:00")
    except ValueError:
        return None
    return int(moment.timestamp()) * 10**9 + int(match[group + 1])
