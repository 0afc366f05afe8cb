"""Through what a file system is read: a parser, a guest's kernel or this host's kernel."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from enum import StrEnum
from typing import Final

from stillframe.errors import CorruptInputError
from stillframe.recovery.files import Opener
from stillframe.recovery.filesystems.interface import FileSystem
from stillframe.recovery.filesystems.opening import open_file_system, open_parser
from stillframe.recovery.filesystems.volumes import Volume
from stillframe.recovery.guest.filesystem import GuestFileSystem
from stillframe.recovery.guest.machine import GuestRefusedError, running_guest
from stillframe.recovery.guest.replay import KERNEL_NAMES, replay_journal
from stillframe.recovery.guest.tools import find_tools
from stillframe.recovery.host_mount import MountedFileSystem, mounted
from stillframe.recovery.overlay import Overlay
from stillframe.recovery.view import view_of

_BTRFS_OPTIONS: Final = "nosuid,nodev,noexec,subvolid=5"  # the top, so that every subvolume is seen


class Through(StrEnum):
    """How to read. PARSER uses a guest only for what no parser reads; the others replay journals."""

    PARSER = "parser"
    GUEST = "guest"
    HOST_KERNEL = "host-kernel"


@contextmanager
def opener(through: Through) -> Iterator[Opener]:
    """A function that opens volumes; what it started (overlays, mounts, guests) ends with the block."""
    with ExitStack() as stack:

        def open_volume(volume: Volume) -> FileSystem:
            if through is Through.HOST_KERNEL and volume.content in KERNEL_NAMES:
                return _through_host(volume, stack)
            if volume.content == "btrfs":
                return _through_guest(volume, stack)
            if through is Through.GUEST and volume.content in KERNEL_NAMES:
                return _replayed(volume, stack)
            return open_file_system(volume)

        yield open_volume


def _overlay(volume: Volume, stack: ExitStack) -> Overlay:
    overlay = Overlay(volume.open_reader())
    stack.callback(overlay.close)
    return overlay


def _replayed(volume: Volume, stack: ExitStack) -> FileSystem:
    """The parser's view of the volume after a guest replayed its journal."""
    overlay = _overlay(volume, stack)
    replay_journal(overlay, volume.content)
    return open_parser(volume.content, overlay)


def _through_guest(volume: Volume, stack: ExitStack) -> FileSystem:
    tools = find_tools()
    path = stack.enter_context(view_of(_overlay(volume, stack)))
    guest = stack.enter_context(running_guest(path, volume.content, tools))
    try:
        guest.request("mount", volume.content, _BTRFS_OPTIONS)
    except GuestRefusedError as error:
        raise CorruptInputError(f"{volume.name}: the guest cannot mount it: {error}") from error
    return GuestFileSystem(guest, volume.content)


def _through_host(volume: Volume, stack: ExitStack) -> FileSystem:
    kernel_name = KERNEL_NAMES[volume.content]
    path = stack.enter_context(view_of(_overlay(volume, stack)))
    folder = stack.enter_context(mounted(path, kernel_name, volume.name))
    return MountedFileSystem(folder, volume.content)
