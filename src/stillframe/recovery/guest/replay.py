"""Has a guest replay the journal of a file system into an overlay, for a parser to read afterwards."""

from __future__ import annotations

from typing import Final

from stillframe.errors import CorruptInputError
from stillframe.recovery.guest.machine import GuestRefusedError, running_guest
from stillframe.recovery.guest.tools import find_tools
from stillframe.recovery.overlay import Overlay
from stillframe.recovery.view import view_of

KERNEL_NAMES: Final = {"ext": "ext4", "xfs": "xfs", "btrfs": "btrfs"}
_OPTIONS: Final = {"ext4": "nosuid,nodev,noexec", "xfs": "nosuid,nodev,noexec,nouuid"}


def replay_journal(overlay: Overlay, content: str) -> None:
    """Mount and unmount in a guest; afterwards the overlay reads as a cleanly unmounted file system.

    Raises:
        CorruptInputError: the guest's kernel refuses the file system.
        UnsupportedError, GuestError: there is no guest to be had.
    """
    kernel_name = KERNEL_NAMES[content]
    tools = find_tools()
    with view_of(overlay) as path, running_guest(path, kernel_name, tools) as guest:
        try:
            guest.request("mount", kernel_name, _OPTIONS[kernel_name])
            guest.request("unmount")
        except GuestRefusedError as error:
            raise CorruptInputError(f"{overlay.name}: the guest cannot mount it: {error}") from error
