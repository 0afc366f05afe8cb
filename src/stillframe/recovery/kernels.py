"""Through what a file system is read: a parser, a guest's kernel or this host's kernel."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum

from stillframe.recovery.files import Opener
from stillframe.recovery.filesystems.opening import open_file_system


class Through(StrEnum):
    PARSER = "parser"
    GUEST = "guest"
    HOST_KERNEL = "host-kernel"


@contextmanager
def opener(through: Through) -> Iterator[Opener]:
    """A function that opens volumes; what it started (views, mounts, guests) ends with the block."""
    del through
    yield open_file_system
