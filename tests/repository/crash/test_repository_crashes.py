"""No crash loses a recovery point that was acknowledged; planted bugs, one a kind, are found."""

import random
from collections.abc import Callable
from contextlib import suppress

import pytest

from stillframe.errors import StillframeError
from stillframe.repository import slots
from stillframe.repository.collection import collect, collect_steps
from stillframe.repository.collection import plan as collection_plan
from stillframe.repository.ingest import plan, run
from stillframe.repository.operations import drive
from stillframe.repository.repository import Repository
from stillframe.repository.storage.local import LocalStorage
from tests.repository.crash.explorer import (
    Life,
    Protected,
    Report,
    checked,
    collected,
    explore,
    explore_second_crashes,
)
from tests.repository.crash.machine import BLOCK_BYTES, blocks, patched
from tests.repository.crash.memory_files import MemoryFiles
from tests.repository.crash.operations import Promise
from tests.repository.crash.planted import (
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
    drive_deletions_before_entry,
)

FIRST, SECOND, THIRD, FOURTH = (f"{number:016x}" for number in range(1, 5))


@pytest.fixture(autouse=True)
def _small_repositories(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hundreds are made, opened and written to here: without the cost of passphrases and large buffers."""
    monkeypatch.setattr(slots, "_MEMORY_KIB", 64)
    monkeypatch.setattr(slots, "_ITERATIONS", 1)
    monkeypatch.setattr(plan, "BATCH_BYTES", BLOCK_BYTES)
    monkeypatch.setattr(run, "PACKS_PER_UPLOAD", 3)
    monkeypatch.setattr(collection_plan, "DEAD_FRACTION", -1)  # collections copy all packs, good ones too


Collect = Callable[[Repository], object]


def live(files: MemoryFiles, storage: type[LocalStorage] = LocalStorage, collect: Collect = collect) -> Life:
    life = Life(files)
    live_on(life, storage, collect)
    return life


def live_on(life: Life, storage: type[LocalStorage], collect: Collect = collect) -> None:
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
    report = explore(live(MemoryFiles()), [checked, collected])
    assert report.verdicts == [], str(report)
    assert report.states > 100


@pytest.mark.parametrize(
    "files", [ForgetsDataSync, ForgetsFolderSync, ForgetsSyncOfNewFolders, SyncsDataAfterLink]
)
def test_a_bug_planted_in_the_file_operations_is_found(files: Callable[[], MemoryFiles]) -> None:
    life = live(files())
    promised = life.files.log.index(Promise(Protected(FIRST)))
    assert explore(life, since=promised, exhaustive=False, enough=1).verdicts


@pytest.mark.parametrize(
    "storage", [ConfigBeforeSlots, EntryBeforeSegment, EntryBeforePacks, EntryBeforeNodes]
)
def test_a_bug_planted_in_the_order_of_puts_is_found(
    storage: type[LocalStorage], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "PACKS_PER_UPLOAD", 1000)  # so that packs are first named by their point
    assert explore(live(MemoryFiles(), storage), enough=1).verdicts


def test_a_collection_that_deletes_before_its_entry_is_found() -> None:
    def collect_wrongly(repository: Repository) -> None:
        drive_deletions_before_entry(collect_steps(repository.knowledge), repository.storage)

    verdicts = explore(live(MemoryFiles(), collect=collect_wrongly), enough=1).verdicts
    assert "is lost" in verdicts[0][1] or "does not have it" in verdicts[0][1]


def test_a_second_crash_during_the_work_after_the_first_keeps_every_promise() -> None:
    report = explore_second_crashes(live(MemoryFiles()), every=80)
    assert report.verdicts == [], str(report)
    assert report.states > 100


@pytest.mark.soak
def test_every_second_crash_keeps_every_promise() -> None:
    report = explore_second_crashes(live(MemoryFiles()), every=1)
    assert report.verdicts == [], str(report)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(20))
def test_random_lives_of_two_processes_keep_every_promise(seed: int) -> None:
    report = explore(random_life(random.Random(seed)), [checked, collected, checked])
    assert report.verdicts == [], f"seed {seed}: {report}"


def random_life(chance: random.Random) -> Life:
    """Two processes take turns at what they like; each learns of the other's doings only by itself."""
    life = Life(MemoryFiles())
    first = life.create()
    second = life.open_again(first)
    for number in range(1, 13):
        repository = chance.choice([first, second])
        repository.refresh()
        points = [point.point_id for point in repository.points()]
        match chance.choice(["full", "full", "increment", "increment", "forget", "collect"]):
            case "increment" if points:
                parent = chance.choice(points)
                changes = {
                    chance.randrange(4) * BLOCK_BYTES + 100: chance.randbytes(chance.choice([1, 5000]))
                }
                data = patched(life.disks[parent], changes)
                life.back_up(repository, f"{number:016x}", data, parent, changes)
            case "forget" if len(points) > 1:
                life.forget(repository, chance.choice(points))
            case "collect":
                collect(repository)
            case _:
                life.back_up(repository, f"{number:016x}", blocks("".join(chance.choices("abc.", k=5))))
    return life


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
