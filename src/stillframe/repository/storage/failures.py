"""What an error of the operating system means for a storage, and what can be done about it."""

from __future__ import annotations

import errno

from stillframe.repository.storage.base import StorageError

_FULL = "Make room on the file system, then run the command again: what is stored already stays whole."
_FAILING = "The disk or its connection fails: look into the system log, then run `repo check --read-data`."
_HINTS = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: "The disk quota is used up. Raise it or make room, then run the command again.",
    errno.EIO: _FAILING,
    errno.EROFS: "The file system is read-only: the kernel does this after errors; look into the system log.",
    errno.EACCES: "Run as a user who may read and write the folder of the repository.",
    errno.ESTALE: "The network file system has lost the folder: mount it again.",
    errno.EMFILE: "Raise the limit of open files (`ulimit -n`).",
    errno.ENOLCK: "The file system offers no file locks: mount it with locking.",
    errno.EXDEV: "All folders of a repository have to be on one file system.",
}
_NO_HARD_LINKS = (
    "The file system has no hard links (as FAT and exFAT), so it cannot promise that nothing is overwritten: "
    "put the repository on ext4, XFS, btrfs, ZFS or NFS."
)
_LINK_REFUSED = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


def storage_failure(place: str, action: str, error: OSError) -> StorageError:
    """The error to raise when ``action`` (as "store data/ab/...") failed at ``place``."""
    reason = error.strerror or str(error)
    return StorageError(f"{place}: cannot {action}: {reason}", hint=_HINTS.get(error.errno or 0, ""))


def link_failure(place: str, name: str, error: OSError) -> StorageError:
    """The error to raise when ``link`` refused to give an object its name."""
    failure = storage_failure(place, f"name {name}", error)
    if error.errno in _LINK_REFUSED:
        failure.hint = _NO_HARD_LINKS
    return failure
