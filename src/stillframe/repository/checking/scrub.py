"""Scrubbing without a key: packs and segments are named by the hash of their bytes."""

from __future__ import annotations

from dataclasses import dataclass

from blake3 import blake3

from stillframe.progress import Progress
from stillframe.repository.checking.parallel import in_parallel
from stillframe.repository.checking.report import CheckReport
from stillframe.repository.config import CONFIG_NAME, read_config
from stillframe.repository.entries import LOG_FOLDER, number_of
from stillframe.repository.errors import DamagedError
from stillframe.repository.storage.base import ObjectMissingError, Storage, StorageError
from stillframe.repository.unlocking import load_config

HASHED_FOLDERS = ("data/", "meta/", "index/")


@dataclass(frozen=True, slots=True)
class Scrubbed:
    """One object: its length, and what is wrong with it, if anything."""

    name: str
    length_bytes: int
    problem: str | None


def scrub(storage: Storage, progress: Progress) -> CheckReport:
    """Hash every pack and segment, and look for holes in the log's numbers. Needs no key.

    Raises:
        NoRepositoryError: there is none.
    """
    report = CheckReport()
    try:
        read_config(load_config(storage))
    except DamagedError as error:
        report.add(CONFIG_NAME, str(error))
    _check_numbers(storage, report)
    names = [name for folder in HASHED_FOLDERS for name in sorted(storage.list(folder))]
    progress.begin("hashing", None)
    for scrubbed in in_parallel(lambda name: scrub_object(storage, name), names):
        report.packs += not scrubbed.name.startswith("index/")
        report.read_bytes += scrubbed.length_bytes
        progress.advance(scrubbed.length_bytes)
        if scrubbed.problem:
            report.add(scrubbed.name, scrubbed.problem)
    return report


def scrub_object(storage: Storage, name: str) -> Scrubbed:
    """Compare an object with its name."""
    try:
        data = storage.get(name)
    except ObjectMissingError:
        return Scrubbed(name, 0, None)  # collected since it was listed
    except StorageError as error:
        return Scrubbed(name, 0, f"cannot be read: {error}")
    right = blake3(data).hexdigest() == name.rpartition("/")[2]
    return Scrubbed(name, len(data), None if right else "its bytes are not what its name says")


def _check_numbers(storage: Storage, report: CheckReport) -> None:
    numbers = sorted(filter(None, map(number_of, storage.list(LOG_FOLDER))))
    report.entries = len(numbers)
    for expected, number in enumerate(numbers, start=1):
        if number != expected:
            report.add(LOG_FOLDER, f"log entry {expected} is missing; there are entries up to {numbers[-1]}")
            return
