"""What comes out of a guest is hostile: the host's half against a guest that lies."""

from __future__ import annotations

import pytest

from stillframe.errors import CorruptInputError
from stillframe.recovery.filesystems.interface import EntryKind
from stillframe.recovery.guest.filesystem import GuestFileSystem
from stillframe.recovery.guest.machine import GuestRefusedError

MARK = "0123456789abcdef0123456789abcdef"
TIMES = b" ".join([b"2026-11-23 17:50:58.901786840 +0000"] * 3)


class LyingGuest:
    mark = MARK

    def __init__(self, **answers: bytes) -> None:
        self._answers = answers

    def request(self, *words: str) -> bytes:
        if words[0] not in self._answers:
            raise GuestRefusedError("no")
        return self._answers[words[0]]


def record(path: bytes, mode: int = 0o100644, size: int = 3, links: int = 1) -> bytes:
    return b"%s %x %d 0 0 %d 7 42 %s %s\n" % (MARK.encode(), mode, size, links, TIMES, path)


def system(**answers: bytes) -> GuestFileSystem:
    stat = record(b"/volume/", 0o40755)
    return GuestFileSystem(LyingGuest(stat=stat, **answers), "btrfs")  # type: ignore[arg-type]


def test_names_may_hold_anything_but_a_slash() -> None:
    names = [b"a", b"new\nline", b"bad\xff", b"%s " % MARK[:31].encode()]
    fs = system(list=b"".join(record(b"/volume//" + name) for name in names), read=b"abc")
    entries = fs.list(fs.root()).entries
    assert [entry.name.encode("utf-8", "surrogateescape") for entry in entries] == names
    assert entries[0].times.modified_ns == 1795456258901786840
    buffer = bytearray(3)
    fs.read_into(entries[0], 0, memoryview(buffer))
    assert buffer == b"abc"


@pytest.mark.parametrize(
    "answer",
    [
        b"noise",
        MARK.encode() + b" no record\n",
        record(b"/volume//" + b"n" * 256),
        record(b"/volume//a\0b"),
        record(b"/volume//a")[:-1],
    ],
)
def test_a_listing_that_is_none_is_refused(answer: bytes) -> None:
    fs = system(list=answer)
    with pytest.raises(CorruptInputError):
        fs.list(fs.root())


@pytest.mark.parametrize("year", [b"2026-99", b"12026-11", b"-5-01"])
def test_a_time_that_cannot_be_is_left_out(year: bytes) -> None:
    fs = system(list=record(b"/volume//a").replace(b"2026-11", year))
    (entry,) = fs.list(fs.root()).entries
    assert entry.times.modified_ns is None


def test_a_file_that_is_shorter_than_said_is_refused() -> None:
    fs = system(list=record(b"/volume//a", size=10), read=b"short")
    (entry,) = fs.list(fs.root()).entries
    with pytest.raises(CorruptInputError, match="ends at 5"):
        fs.read_into(entry, 0, memoryview(bytearray(10)))


@pytest.mark.parametrize("target", [b"", b"\n", b"x" * 4097, b"a\0b"])
def test_a_target_that_is_no_path_is_refused(target: bytes) -> None:
    fs = system(list=record(b"/volume//a", 0o120777), link=target)
    (entry,) = fs.list(fs.root()).entries
    assert entry.kind is EntryKind.SYMLINK
    with pytest.raises(CorruptInputError):
        fs.symlink_target(entry)


def test_what_the_guest_refuses_names_the_path() -> None:
    fs = system()
    with pytest.raises(CorruptInputError, match="/: the guest cannot read it: no"):
        fs.list(fs.root())
