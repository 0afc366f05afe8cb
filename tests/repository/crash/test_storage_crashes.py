"""The local storage keeps its promises in every state that a crash may leave; a planted bug is found."""

from collections.abc import Callable

import pytest

from stillframe.errors import StillframeError
from stillframe.repository.storage.base import ObjectMissingError
from stillframe.repository.storage.local import LocalStorage
from tests.repository.crash.memory_files import MemoryFiles
from tests.repository.crash.planted import (
    ForgetsDataSync,
    ForgetsFolderSync,
    ForgetsSyncOfNewFolders,
    SyncsDataAfterLink,
    SyncsNothingThatItRead,
)
from tests.repository.crash.states import CrashState, crash_states

CONTENTS = {
    "config": b"c",
    "index/one": b"i" * 700,
    "data/aa/two": b"t" * 1500,
    "data/ab/three": b"",
    "data/aa/four": bytes(range(256)) * 5,
}
GONE = "index/one"


def use(files: MemoryFiles) -> None:
    """Put all, delete one, promise each when it is done."""
    storage = LocalStorage(files, "recorded", create=True)
    for name, data in CONTENTS.items():
        assert storage.put_if_absent(name, data)
        files.promise(("put", name))
    assert not storage.put_if_absent("config", b"another")
    storage.delete(GONE)
    files.promise(("deleted", GONE))


def judge(state: CrashState) -> str:
    """What is wrong in a state; nothing if all is well."""
    try:
        storage = LocalStorage(state.files(), "left")
    except StillframeError:
        return "the storage is gone" if state.promises else ""
    there = set(storage.list(""))
    promised = {name for name in CONTENTS if ("put", name) in state.promises} - {GONE}
    if promised - there:
        return f"{promised - there} lost"
    if ("deleted", GONE) in state.promises and GONE in there:
        return f"{GONE} is back"
    damaged = {name for name in there if storage.get(name) != CONTENTS[name]}
    if damaged:
        return f"{damaged} not whole"
    return (
        "" if storage.put_if_absent("log/again", b"x") and storage.get("log/again") == b"x" else "put fails"
    )


def verdicts(files: MemoryFiles, *, exhaustive: bool) -> set[str]:
    return {judge(state) for state in crash_states(files.log, exhaustive=exhaustive)}


def test_every_state_after_every_crash_is_sound() -> None:
    files = MemoryFiles()
    use(files)
    states = list(crash_states(files.log))
    assert len(states) > 30
    assert {judge(state) for state in states} == {""}


def test_leftovers_of_dead_writers_go_with_the_next_put_and_of_living_ones_stay() -> None:
    files = MemoryFiles({"config": b"", ".tmp/" + "1" * 32: b"", ".tmp/" + "2" * 32: b""}, [".tmp"])
    living = files.open(".tmp/" + "2" * 32, writable=True)
    assert files.flock(living)
    LocalStorage(files, "left").put_if_absent("index/1", b"")
    assert [name for name, _ in files.scandir(".tmp")] == ["2" * 32]


@pytest.mark.parametrize(
    ("planted", "found"),
    [
        (ForgetsDataSync, "not whole"),
        (ForgetsFolderSync, "the storage is gone"),
        (ForgetsSyncOfNewFolders, "lost"),
        (SyncsDataAfterLink, "not whole"),
    ],
)
def test_a_planted_bug_is_found(planted: Callable[[], MemoryFiles], found: str) -> None:
    files = planted()
    use(files)
    assert any(found in verdict for verdict in verdicts(files, exhaustive=False))


class Meanwhile(MemoryFiles):
    """Lets another process act in the moment between a link and the sync that makes it durable."""

    def __init__(self, folder: str) -> None:
        super().__init__()
        self.folder = folder
        self.act: Callable[[], None] | None = None

    def fsync_folder(self, path: str) -> None:
        act, self.act = (None, self.act) if path != self.folder else (self.act, None)
        if act:
            act()
        super().fsync_folder(path)


def chain_of_two(kind: type[LocalStorage]) -> set[str]:
    """One process puts entry 1; another sees it before it is durable, and puts entry 2 elsewhere."""
    files = Meanwhile("log/1")
    first, second = (kind(files, "recorded", create=True) for _ in range(2))
    first.put_if_absent("log/1/0", b"makes the folder")

    def follow() -> None:
        assert second.get("log/1/1") == b"one"
        second.put_if_absent("log/2/2", b"two")
        files.promise("two")

    files.act = follow
    first.put_if_absent("log/1/1", b"one")
    return {hole(state) for state in crash_states(files.log)}


def hole(state: CrashState) -> str:
    try:
        storage = LocalStorage(state.files(), "left")
        storage.get("log/2/2")
    except StillframeError:
        return "two lost" if "two" in state.promises else ""
    try:
        storage.get("log/1/1")
    except ObjectMissingError:
        return "two without one"
    return ""


def test_what_another_process_reads_is_durable_before_what_it_puts() -> None:
    assert chain_of_two(LocalStorage) == {""}


def test_a_put_that_does_not_wait_for_what_was_read_is_found() -> None:
    assert "two without one" in chain_of_two(SyncsNothingThatItRead)


def test_a_taken_name_is_durable_before_the_refusal() -> None:
    files = Meanwhile("log")
    first, second = (LocalStorage(files, "recorded", create=True) for _ in range(2))
    first.put_if_absent("log/0", b"makes the folder")

    def lose() -> None:
        assert not second.put_if_absent("log/1", b"mine")
        files.promise("taken")

    files.act = lose
    first.put_if_absent("log/1", b"first")
    for state in crash_states(files.log):
        assert "taken" not in state.promises or ("log/1", b"first") in state.remains.files
