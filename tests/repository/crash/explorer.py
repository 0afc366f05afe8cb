"""Crashes a life of a repository at every moment, with every legal loss, and judges what is left.

A *promise* is noted when the program has acknowledged something. In every state that a crash may leave, the
repository must open, list, and restore every point that was promised and not being forgotten; a point that
was not promised may be listed or not, but what is listed is complete. And work must be able to go on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

from stillframe.errors import StillframeError
from stillframe.repository.checking.check import check
from stillframe.repository.collection import collect
from stillframe.repository.repository import Repository, create_repository, open_repository
from stillframe.repository.storage.local import LocalStorage
from stillframe.repository.storage.probe import probe
from stillframe.repository.unlocking import unlock_slots
from tests.repository.crash.machine import BLOCK_BYTES, back_up, restored
from tests.repository.crash.memory_files import MemoryFiles
from tests.repository.crash.states import CrashState, crash_states

PASSPHRASE = "correct horse"
AFTERWARDS, BETWEEN = "00000000000000ff", "00000000000000fe"
PARAMETERS = {"block_bytes": BLOCK_BYTES, "fan_out": 2, "pack_bytes": 100}


@dataclass(frozen=True)
class Created:
    """Init has returned and shown the recovery key."""

    recovery_key: str


@dataclass(frozen=True)
class Protected:
    """A backup has returned."""

    point_id: str


@dataclass(frozen=True)
class Forgetting:
    """A point may be gone from now on."""

    point_id: str


@dataclass(frozen=True)
class Forgotten:
    """A point has to be gone from now on."""

    point_id: str


@dataclass
class Life:
    """What happened to a repository on a recording file system, and what its points have to hold."""

    files: MemoryFiles
    disks: dict[str, bytes] = field(default_factory=dict)

    def create(self, storage: type[LocalStorage] = LocalStorage) -> Repository:
        recorded = storage(self.files, "recorded", create=True)
        probe(recorded)
        repository, recovery_key = create_repository(recorded, PASSPHRASE, **PARAMETERS)  # type: ignore[arg-type]
        self.files.promise(Created(recovery_key))
        return repository

    def open_again(self, repository: Repository) -> Repository:
        """The same repository as another process sees it."""
        return open_repository(LocalStorage(self.files, "other"), lambda _: repository.knowledge.bundle)

    def back_up(
        self,
        repository: Repository,
        point_id: str,
        data: bytes,
        parent: str | None = None,
        changes: Mapping[int, bytes] | None = None,
    ) -> None:
        self.disks[point_id] = data
        back_up(repository, point_id, data, parent=parent, changes=changes)
        self.files.promise(Protected(point_id))

    def forget(self, repository: Repository, point_id: str) -> None:
        self.files.promise(Forgetting(point_id))
        repository.forget([point_id], "tested")
        self.files.promise(Forgotten(point_id))


Verdict = str
"""What is wrong; empty if nothing is."""

Check = Callable[[Repository], Verdict]
"""A further look at a repository that has opened."""


@dataclass(frozen=True)
class Report:
    """How an exploration went."""

    states: int
    verdicts: Sequence[tuple[int, Verdict]]

    def __str__(self) -> str:
        shown = "\n".join(
            f"after {operations} operations: {verdict}" for operations, verdict in self.verdicts
        )
        return f"{self.states} states\n{shown}"


def explore(
    life: Life, checks: Sequence[Check] = (), *, since: int = 0, exhaustive: bool = True, enough: int = 5
) -> Report:
    """Judge every state that a crash leaves after ``since`` operations; stop after ``enough`` wrong ones."""
    verdicts: list[tuple[int, Verdict]] = []
    states = 0
    for state in crash_states(life.files.log, since=since, exhaustive=exhaustive):
        states += 1
        verdict = judge(state, life.disks, checks)
        if verdict:
            verdicts.append((state.operations, verdict))
        if len(verdicts) == enough:
            break
    return Report(states, verdicts)


def explore_second_crashes(life: Life, *, every: int, enough: int = 5) -> Report:
    """From every so-manieth state after a first crash: go on working, and crash again at every moment."""
    verdicts: list[tuple[int, Verdict]] = []
    states = 0
    for state in islice(crash_states(life.files.log), None, None, every):
        if any(isinstance(promise, Created) for promise in state.promises):
            report = _crash_again(state, life.disks)
            states += report.states
            verdicts += report.verdicts
        if len(verdicts) >= enough:
            break
    return Report(states, verdicts)


def _crash_again(state: CrashState, disks: Mapping[str, bytes]) -> Report:
    second = Life(state.files(), dict(disks))
    for promise in state.promises:
        second.files.promise(promise)
    since = len(second.files.log)
    repository = _opened(second.files, _recovery_key(state.promises) or "")
    second.back_up(repository, BETWEEN, b"between".ljust(BLOCK_BYTES, b"?"))
    collect(repository)
    return explore(second, since=since)


def judge(state: CrashState, disks: Mapping[str, bytes], checks: Sequence[Check] = ()) -> Verdict:
    files = state.files()
    recovery_key = _recovery_key(state.promises)
    try:
        if recovery_key is None:
            return _judge_unfinished_init(files)
        repository = _opened(files, recovery_key)
        return next(filter(None, _findings(repository, state, disks, checks)), "")
    except StillframeError as error:
        return f"{type(error).__name__}: {error}"


def _findings(
    repository: Repository, state: CrashState, disks: Mapping[str, bytes], checks: Sequence[Check]
) -> Iterator[Verdict]:
    yield _compare(repository, state.promises, disks)
    for look in checks:
        yield look(repository)
    yield _compare(repository, state.promises, disks)
    yield _go_on(repository)


def _recovery_key(promises: Sequence[object]) -> str | None:
    return next((promise.recovery_key for promise in promises if isinstance(promise, Created)), None)


def _opened(files: MemoryFiles, recovery_key: str) -> Repository:
    storage = LocalStorage(files, "left")
    return open_repository(storage, lambda config: unlock_slots(storage, config, recovery_key))


def _judge_unfinished_init(files: MemoryFiles) -> Verdict:
    """Init was not acknowledged: it can be repeated, unless it was done after all."""
    storage = LocalStorage(files, "left", create=True)
    if "config" in set(storage.list("")):
        opened = open_repository(storage, lambda config: unlock_slots(storage, config, PASSPHRASE))
        return "points in a repository that nobody used" if opened.points() else ""
    repository, recovery_key = create_repository(storage, PASSPHRASE, **PARAMETERS)  # type: ignore[arg-type]
    return _go_on(repository) or (
        "" if _opened(files, recovery_key).points() else "init does not work any more"
    )


def _compare(repository: Repository, promises: Sequence[object], disks: Mapping[str, bytes]) -> Verdict:
    """Promised points are listed, those promised gone are not, and all listed hold what they must."""
    listed = {point.point_id for point in repository.points()}
    owed = {promise.point_id for promise in promises if isinstance(promise, Protected)}
    forgetting = {promise.point_id for promise in promises if isinstance(promise, Forgetting)}
    forgotten = {promise.point_id for promise in promises if isinstance(promise, Forgotten)}
    if lost := (owed - forgetting) - listed:
        return f"lost points {sorted(lost)}"
    if back := forgotten & listed:
        return f"forgotten points {sorted(back)} are back"
    wrong = [point_id for point_id in listed if restored(repository, point_id) != disks[point_id]]
    return f"points {wrong} hold other bytes" if wrong else ""


def _go_on(repository: Repository) -> Verdict:
    """The next backup works, in the repository as it was left."""
    data = b"afterwards".ljust(BLOCK_BYTES, b"!")
    back_up(repository, AFTERWARDS, data)
    return "" if restored(repository, AFTERWARDS) == data else "the next backup is wrong"


def checked(repository: Repository) -> Verdict:
    """The product's own check, all data read, finds nothing."""
    report = check(repository, read_data=True)
    return "" if report.is_good else f"the check says {report.problems} {report.affected}"


def collected(repository: Repository) -> Verdict:
    """Collections after the crash: enough for what the crash left lying to be suspected and deleted."""
    for _ in range(2):
        collect(repository)
    return ""
