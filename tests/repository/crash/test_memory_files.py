"""The recording file system does what the real one does."""

import errno
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stillframe.repository.storage.files import FileOps, SystemFiles
from tests.repository.crash.memory_files import MemoryFiles
from tests.repository.crash.operations import FOLDER, Entry, SyncFile, SyncFolder, Write

PATHS = st.sampled_from(["a", "b", "f/a", "f/b", "f", "f/g", "f/g/a"])
CALLS = st.one_of(
    st.tuples(
        st.sampled_from(["create", "unlink", "mkdir", "fsync_folder", "list", "size", "exists"]), PATHS
    ),
    st.tuples(st.just("link"), PATHS, PATHS),
    st.tuples(st.just("append"), PATHS, st.binary(max_size=9)),
)


def outcome(files: FileOps, call: tuple[object, ...]) -> object:
    """The answer, or which of the errors that the storage tells apart."""
    try:
        return perform(files, *call)  # type: ignore[arg-type]
    except OSError as error:
        return "error" if error.errno not in (errno.ENOENT, errno.EEXIST) else error.errno


def perform(files: FileOps, name: str, path: str, argument: object = None) -> object:
    simple: dict[str, Callable[[], object]] = {
        "create": lambda: files.close(files.create(path)),
        "unlink": lambda: files.unlink(path),
        "mkdir": lambda: files.mkdir(path),
        "fsync_folder": lambda: files.fsync_folder(path),
        "list": lambda: sorted(files.scandir(path)),
        "exists": lambda: files.exists(path),
        "link": lambda: files.link(path, str(argument)),
    }
    if name in simple:
        return simple[name]()
    handle = files.open(path, writable=True)
    try:
        if isinstance(argument, bytes):
            return files.fstat(handle)
        return files.fstat(handle), files.pread(handle, 4, 2), files.flock(handle)
    finally:
        files.close(handle)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(calls=st.lists(CALLS, max_size=25))
def test_any_calls_have_the_same_outcome_on_both(
    tmp_path_factory: pytest.TempPathFactory, calls: list[tuple[object, ...]]
) -> None:
    real = SystemFiles(tmp_path_factory.mktemp("root"))
    try:
        memory = MemoryFiles()
        for call in calls:
            assert outcome(memory, call) == outcome(real, call), call
    finally:
        real.release()


@pytest.fixture(params=["real", "memory"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> FileOps:
    return SystemFiles(tmp_path) if request.param == "real" else MemoryFiles()


def test_a_file_lives_while_it_is_open(files: FileOps) -> None:
    handle = files.create("a")
    assert files.write(handle, memoryview(b"hello")) == 5
    files.link("a", "b")
    assert files.fstat(handle).links == 2
    files.unlink("a")
    files.unlink("b")
    assert files.fstat(handle).links == 0
    assert files.pread(handle, 3, 1) == b"ell"


def test_one_open_file_at_a_time_has_the_lock(files: FileOps) -> None:
    first = files.create("a")
    second = files.open("a", writable=True)
    assert files.flock(first)
    assert not files.flock(second)
    files.close(first)
    assert files.flock(second)


def test_the_log_says_what_was_done() -> None:
    files = MemoryFiles()
    files.mkdir("f")
    handle = files.create("f/a")
    files.write(handle, memoryview(b"x"))
    files.fdatasync(handle)
    files.link("f/a", "b")
    files.unlink("f/a")
    files.fsync_folder("f")
    assert files.log == [
        Entry(".", "f", FOLDER),
        Entry("f", "a", 0),
        Write(0, 0, b"x"),
        SyncFile(0),
        Entry(".", "b", 0),
        Entry("f", "a", None),
        SyncFolder("f"),
    ]
