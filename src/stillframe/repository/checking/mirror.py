"""Mending objects from a mirror. Needs no key: packs and segments are named by the hash of their bytes."""

from __future__ import annotations

from collections.abc import Iterable

from blake3 import blake3

from stillframe.progress import Progress
from stillframe.repository.checking.repair_report import RepairReport
from stillframe.repository.checking.scrub import HASHED_FOLDERS
from stillframe.repository.storage.base import ObjectMissingError, Storage, StorageError


def repair_from_mirror(
    storage: Storage, mirror: Storage, wanted: Iterable[str], progress: Progress, *, dry_run: bool
) -> RepairReport:
    """Replace objects that are lost, or whose bytes belie their name, by a mirror's good copies.

    ``wanted``: names to look at besides those that ``storage`` lists: what the log says must be there.
    """
    report = RepairReport(dry_run)
    names = set(wanted)
    names.update(name for folder in HASHED_FOLDERS for name in storage.list(folder))
    progress.begin("hashing", None)
    for name in sorted(names):
        there = _bytes_of(storage, name)
        progress.advance(len(there or b""))
        if there is not None and _is_right(name, there):
            continue
        good = _bytes_of(mirror, name)
        if good is None or not _is_right(name, good):
            report.still_lost += 1
            continue
        report.healed_objects.append(name)
        if not dry_run:
            if there is not None:
                storage.delete(name)  # bad, and what it should be is at hand: its name is the hash of that
            storage.put_if_absent(name, good)
    return report


def _bytes_of(storage: Storage, name: str) -> bytes | None:
    """None if it is not there; nothing right if it cannot be read (a bad sector, say)."""
    try:
        return storage.get(name)
    except ObjectMissingError:
        return None
    except StorageError:
        return b""


def _is_right(name: str, data: bytes) -> bool:
    return blake3(data).hexdigest() == name.rpartition("/")[2]
