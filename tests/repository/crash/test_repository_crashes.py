"""No crash loses a recovery point that was acknowledged; planted bugs, one a kind, are found."""

from collections.abc import Callable
from contextlib import suppress

import pytest

from stillframe.errors import StillframeError
from stillframe.repository import slots
from stillframe.repository.collection import collect
from stillframe.repository.ingest import pipeline, plan, run
from stillframe.repository.operations import drive
from stillframe.repository.storage.local import LocalStorage
from tests.repository.crash.explorer import Life, Protected, Report, checked, collected, explore
from tests.repository.crash.machine import BLOCK_BYTES, blocks, patched
from tests.repository.crash.memory_files import MemoryFiles
from tests.repository.crash.operations import Promise
from tests.repository.crash.planted import (
    BytesBeforeEntry,
    ConfigBeforeSlots,
    EntryBeforeNodes,
    EntryBeforePacks,
    EntryBeforeSegment,
    FailsOneSync,
    ForgetsDataSync,
    ForgetsFolderSync,
    ForgetsSyncOfNewFolders,
    SyncsDataAfterLink,
    TrustsFailedPuts,
)

FIRST, SECOND, THIRD, FOURTH = (f"{number:016x}" for number in range(1, 5))


@pytest.fixture(autouse=True)
def _small_repositories(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hundreds are made, opened and written to here: without the cost of passphrases and large buffers."""
    monkeypatch.setattr(slots, "_MEMORY_KIB", 64)
    monkeypatch.setattr(slots, "_ITERATIONS", 1)
    monkeypatch.setattr(plan, "BATCH_BYTES", BLOCK_BYTES)
    monkeypatch.setattr(run, "PACKS_PER_UPLOAD", 3)
    monkeypatch.setattr(pipeline, "BATCH_BYTES", BLOCK_BYTES)


def live(files: MemoryFiles, storage: type[LocalStorage] = LocalStorage) -> Life:
    life = Life(files)
    live_on(life, storage)
    return life


def live_on(life: Life, storage: type[LocalStorage]) -> None:
    """Init, a full backup, an increment in pieces and whole blocks, forgetting, collecting, backups again."""
    repository = life.create(storage)
    first = blocks("ab.cd+")
    changes = {5000: b"x" * 100, 3 * BLOCK_BYTES: b"y" * BLOCK_BYTES}
    second = patched(first, changes)
    life.back_up(repository, FIRST, first)
    life.back_up(repository, SECOND, second, FIRST, changes)
    life.forget(repository, FIRST)
    collect(repository)
    life.back_up(repository, THIRD, blocks("abcd"))
    drive(repository.knowledge.log.write_checkpoint(), repository.storage)
    life.back_up(repository, FOURTH, second, SECOND, {0: second[:1]})
    life.forget(repository, THIRD)
    collect(repository)
    collect(repository)


def test_every_state_after_every_crash_keeps_every_promise() -> None:
    report = explore(live(MemoryFiles()), [checked, collected, checked])
    assert report.verdicts == [], str(report)
    assert report.states > 200


@pytest.mark.parametrize(
    "files", [ForgetsDataSync, ForgetsFolderSync, ForgetsSyncOfNewFolders, SyncsDataAfterLink]
)
def test_a_bug_planted_in_the_file_operations_is_found(files: Callable[[], MemoryFiles]) -> None:
    life = live(files())
    promised = life.files.log.index(Promise(Protected(FIRST)))
    assert explore(life, since=promised, exhaustive=False, enough=1).verdicts


@pytest.mark.parametrize(
    "storage", [ConfigBeforeSlots, EntryBeforeSegment, EntryBeforePacks, EntryBeforeNodes, BytesBeforeEntry]
)
def test_a_bug_planted_in_the_order_of_puts_is_found(storage: type[LocalStorage]) -> None:
    assert explore(live(MemoryFiles(), storage), enough=1).verdicts


def after_a_failed_sync(failing: int, storage: type[LocalStorage]) -> Report:
    """What is left when one sync of the log fails, the program stops on it, and then the power goes."""
    files = FailsOneSync(failing)
    life = Life(files)
    with suppress(StillframeError):
        live_on(life, storage)
    return explore(life, since=files.failed_after, enough=1)


def test_an_entry_whose_sync_failed_is_not_acknowledged() -> None:
    reports = [after_a_failed_sync(failing, LocalStorage) for failing in range(12)]
    assert [report for report in reports if report.verdicts] == []
    assert sum(report.states for report in reports) > 20


def test_an_acknowledgement_after_a_failed_sync_is_found() -> None:
    assert any(after_a_failed_sync(failing, TrustsFailedPuts).verdicts for failing in range(12))
