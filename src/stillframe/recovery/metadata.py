"""Times, owner, mode and extended attributes of restored files, and what of them a target cannot hold."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from stillframe.recovery.filesystems.interface import Entry


@dataclass(slots=True)
class Lost:
    """How often each kind of metadata could not be kept, and the first reason."""

    counts: Counter[str] = field(default_factory=Counter)
    reasons: dict[str, str] = field(default_factory=dict)

    @contextmanager
    def noting(self, what: str) -> Iterator[None]:
        """Run a block whose OSError means that ``what`` was lost."""
        try:
            yield
        except OSError as error:
            self.counts[what] += 1
            self.reasons.setdefault(what, error.strerror or str(error))

    def lines(self) -> list[str]:
        return [
            f"{what} of {count} {'file' if count == 1 else 'files'}: {self.reasons[what]}"
            for what, count in sorted(self.counts.items())
        ]


def apply_to_descriptor(entry: Entry, xattrs: dict[str, bytes], descriptor: int, lost: Lost) -> None:
    """Give an open file or folder the entry's owner, attributes, mode and times, in the order that keeps all.

    A change of owner clears the set-user-id bit and capabilities, and any write changes the times.
    """
    owned = _change_owner(entry, descriptor, lost)
    for name, value in xattrs.items():
        with lost.noting(f"attribute {name}"):
            os.setxattr(descriptor, name, value)
    if entry.mode is not None:
        mode = entry.mode if owned else entry.mode & 0o1777  # never lend our own identity
        with lost.noting("mode"):
            os.fchmod(descriptor, mode)
    _change_times(entry, descriptor, lost)


def apply_to_link(entry: Entry, folder: int, name: str, xattrs: dict[str, bytes], lost: Lost) -> None:
    """The same for a symbolic link, which has no mode of its own on Linux."""
    if entry.owner is not None and entry.group is not None:
        with lost.noting("owner"):
            os.chown(name, entry.owner, entry.group, dir_fd=folder, follow_symlinks=False)
    for attribute, value in xattrs.items():
        with lost.noting(f"attribute {attribute}"):
            os.setxattr(f"/proc/self/fd/{folder}/{name}", attribute, value, follow_symlinks=False)
    if (times := _pair(entry)) is not None:
        with lost.noting("times"):
            os.utime(name, ns=times, dir_fd=folder, follow_symlinks=False)


def _change_owner(entry: Entry, descriptor: int, lost: Lost) -> bool:
    """Whether the file belongs to its owner now (always, where the disk knows no owners)."""
    if entry.owner is None or entry.group is None:
        return True
    status = os.fstat(descriptor)
    if (status.st_uid, status.st_gid) == (entry.owner, entry.group):
        return True
    before = lost.counts["owner"]
    with lost.noting("owner"):
        os.fchown(descriptor, entry.owner, entry.group)
    return lost.counts["owner"] == before


def _change_times(entry: Entry, descriptor: int, lost: Lost) -> None:
    if (times := _pair(entry)) is not None:
        with lost.noting("times"):
            os.utime(descriptor, ns=times)


def _pair(entry: Entry) -> tuple[int, int] | None:
    """Times of access and modification, which are the two that Linux lets be set."""
    modified = entry.times.modified_ns
    if modified is None:
        return None
    accessed = entry.times.accessed_ns
    return (modified if accessed is None else accessed, modified)
