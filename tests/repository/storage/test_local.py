"""The local storage when the machine fails: what it says, what it leaves, what it refuses."""

import errno
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from stillframe.repository.storage.base import ObjectMissingError, StorageError
from stillframe.repository.storage.files import SystemFiles
from stillframe.repository.storage.local import LocalStorage
from stillframe.repository.storage.open import open_storage
from tests.repository.crash.memory_files import MemoryFiles
from tests.repository.crash.operations import SyncFolder

Call = Callable[[LocalStorage], object]


class FailingFiles(MemoryFiles):
    """Fails the calls in ``failing`` with ``number``, so many ``times``; reads and writes by little bits."""

    def __init__(self) -> None:
        super().__init__()
        self.failing: set[str] = set()
        self.number = errno.EIO
        self.times = 1000

    def _check(self, call: str) -> None:
        if call in self.failing and self.times:
            self.times -= 1
            raise OSError(self.number, os.strerror(self.number))

    def create(self, path: str) -> int:
        self._check("create")
        return super().create(path)

    def open(self, path: str, *, writable: bool = False) -> int:
        self._check("open")
        return super().open(path, writable=writable)

    def write(self, handle: int, data: memoryview) -> int:
        self._check("write")
        return super().write(handle, data[:7])

    def fdatasync(self, handle: int) -> None:
        self._check("fdatasync")
        super().fdatasync(handle)

    def link(self, existing: str, new: str) -> None:
        self._check("link")
        super().link(existing, new)

    def unlink(self, path: str) -> None:
        self._check("unlink")
        super().unlink(path)

    def fsync_folder(self, path: str) -> None:
        self._check("fsync_folder")
        super().fsync_folder(path)

    def pread(self, handle: int, length_bytes: int, offset_bytes: int) -> bytes:
        self._check("pread")
        return super().pread(handle, min(length_bytes, 5), offset_bytes)


@pytest.fixture
def files() -> FailingFiles:
    return FailingFiles()


@pytest.fixture
def storage(files: FailingFiles) -> LocalStorage:
    return LocalStorage(files, "/backup", create=True)


def test_short_reads_and_writes_are_continued(storage: LocalStorage) -> None:
    data = bytes(range(100))
    storage.put_if_absent("config", data)
    assert storage.get("config") == data
    assert storage.get_range("config", 10, 50) == data[10:60]


@pytest.mark.parametrize(
    ("number", "text", "hint"),
    [
        (errno.ENOSPC, "No space left", "Make room"),
        (errno.EDQUOT, "quota", "quota"),
        (errno.EIO, "Input/output error", "system log"),
        (errno.EROFS, "Read-only", "system log"),
        (errno.EACCES, "Permission", "user who may"),
    ],
)
@pytest.mark.parametrize("call", ["create", "write", "fdatasync", "link", "fsync_folder"])
def test_a_put_that_fails_says_why_and_what_to_do(
    storage: LocalStorage, files: FailingFiles, call: str, number: int, text: str, hint: str
) -> None:
    files.failing, files.number = {call}, number
    with pytest.raises(StorageError) as error:
        storage.put_if_absent("data/aa/1", b"x" * 20)
    assert str(error.value).startswith("/backup: cannot ")
    assert text in str(error.value)
    assert hint in error.value.hint
    assert list(files.scandir(".tmp")) == []


@pytest.mark.parametrize("call", ["create", "write", "fdatasync", "link"])
def test_a_put_that_failed_before_the_link_left_nothing_and_can_be_repeated(
    storage: LocalStorage, files: FailingFiles, call: str
) -> None:
    files.failing, files.number = {call}, errno.ENOSPC
    with pytest.raises(StorageError):
        storage.put_if_absent("data/aa/1", b"x")
    assert list(storage.list("")) == []
    files.failing = set()
    assert storage.put_if_absent("data/aa/1", b"x")


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK])
def test_a_file_system_without_hard_links_is_named(
    storage: LocalStorage, files: FailingFiles, number: int
) -> None:
    files.failing, files.number = {"link"}, number
    with pytest.raises(StorageError) as error:
        storage.put_if_absent("config", b"")
    assert "no hard links" in error.value.hint


def test_after_a_failed_sync_nothing_more_is_written(storage: LocalStorage, files: FailingFiles) -> None:
    """The kernel reports a lost write once; a second fsync would say that all is well."""
    storage.put_if_absent("log/1", b"1")
    files.failing = {"fsync_folder"}
    with pytest.raises(StorageError):
        storage.put_if_absent("log/2", b"2")
    files.failing = set()
    for change in (lambda: storage.put_if_absent("log/3", b"3"), lambda: storage.delete("log/1")):
        with pytest.raises(StorageError, match="could not be made durable"):
            change()
    assert storage.get("log/1") == b"1"


def test_a_put_whose_sync_failed_is_never_confirmed_by_a_get(
    storage: LocalStorage, files: FailingFiles
) -> None:
    storage.put_if_absent("log/1", b"1")
    files.failing = {"fsync_folder"}
    with pytest.raises(StorageError):
        storage.put_if_absent("log/2", b"2")
    files.failing = set()
    with pytest.raises(StorageError, match="could not be made durable") as error:
        storage.get("log/2")
    assert not isinstance(error.value, ObjectMissingError)


def test_a_get_that_confirms_a_put_that_failed_makes_it_durable(
    storage: LocalStorage, files: FailingFiles
) -> None:
    storage.put_if_absent("log/1", b"1")
    files.failing = {"unlink"}
    with pytest.raises(StorageError):
        storage.put_if_absent("log/2", b"2")
    assert files.log[-1] != SyncFolder("log")
    assert storage.get("log/2") == b"2"
    assert files.log[-1] == SyncFolder("log")


def test_a_link_that_was_made_and_then_refused_by_its_repetition_counts() -> None:
    class RepeatsLinks(MemoryFiles):
        def link(self, existing: str, new: str) -> None:
            super().link(existing, new)
            super().link(existing, new)

    storage = LocalStorage(RepeatsLinks(), "nfs", create=True)
    assert storage.put_if_absent("config", b"mine")
    assert not storage.put_if_absent("config", b"another")
    assert storage.get("config") == b"mine"


READS: list[Call] = [
    lambda storage: storage.get("config"),
    lambda storage: storage.get_range("config", 0, 1),
    lambda storage: storage.size("config"),
]


@pytest.mark.parametrize("read", READS)
def test_no_answer_is_not_missing(storage: LocalStorage, files: FailingFiles, read: Call) -> None:
    storage.put_if_absent("config", b"c")
    files.failing = {"open"}
    with pytest.raises(StorageError, match="Input/output error") as error:
        read(storage)
    assert not isinstance(error.value, ObjectMissingError)


@pytest.mark.parametrize(
    "call",
    [*READS, lambda storage: list(storage.list("")), lambda storage: storage.delete("config")],
)
def test_a_repository_that_is_gone_is_not_an_empty_one(tmp_path: Path, call: Call) -> None:
    storage = LocalStorage(SystemFiles(tmp_path), str(tmp_path), create=True)
    storage.put_if_absent("config", b"c")
    shutil.rmtree(tmp_path)
    with pytest.raises(StorageError, match="no repository is there") as error:
        call(storage)
    assert not isinstance(error.value, ObjectMissingError)


def test_a_stale_handle_is_opened_anew(storage: LocalStorage, files: FailingFiles) -> None:
    storage.put_if_absent("config", b"c")
    files.failing, files.number, files.times = {"pread"}, errno.ESTALE, 1
    assert storage.get_range("config", 0, 1) == b"c"


def test_what_is_no_object_is_not_listed(tmp_path: Path) -> None:
    storage = open_storage(str(tmp_path / "r"), create=True)
    storage.put_if_absent("data/aa/1", b"")
    for foreign in ("lost+found", ".snapshot", "data/UPPER", "data/.hidden"):
        (tmp_path / "r" / foreign).mkdir()
    (tmp_path / "r/data/aa/notes.txt").touch()
    assert list(storage.list("")) == ["data/aa/1"]


def test_files_kept_open_are_few_and_do_not_leak(tmp_path: Path) -> None:
    storage = open_storage(str(tmp_path / "r"), create=True)
    before = len(os.listdir("/proc/self/fd"))
    for number in range(200):
        storage.put_if_absent(f"data/{number % 3}/{number}", b"x")
        storage.get_range(f"data/{number % 3}/{number}", 0, 1)
    assert len(os.listdir("/proc/self/fd")) - before <= 64
    storage.close()
    storage.close()
    assert len(os.listdir("/proc/self/fd")) < before


def test_ranges_are_right_while_files_come_and_go(tmp_path: Path) -> None:
    """Threads read more files than are kept open, another deletes some: right bytes or missing, no other."""
    storage = open_storage(str(tmp_path / "r"), create=True)
    contents = {f"data/{n % 4}/{n}": bytes([n]) * 64 for n in range(150)}
    for name, data in contents.items():
        storage.put_if_absent(name, data)
    wrong: list[str] = []

    def read(seed: int) -> None:
        for step in range(3000):
            name = f"data/{(seed * 31 + step * 7) % 150 % 4}/{(seed * 31 + step * 7) % 150}"
            try:
                if storage.get_range(name, 3, 50) != contents[name][3:53]:
                    wrong.append(name)
            except ObjectMissingError:
                if int(name.rpartition("/")[2]) % 5:
                    wrong.append(f"{name} missing")

    readers = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
    for reader in readers:
        reader.start()
    for number in range(0, 150, 5):
        storage.delete(f"data/{number % 4}/{number}")
    for reader in readers:
        reader.join()
    assert wrong == []
