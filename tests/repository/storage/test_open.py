"""What users write after ``--repo``."""

from pathlib import Path

import pytest

from stillframe.errors import UnsupportedError, UsageError
from stillframe.repository.storage.base import StorageError
from stillframe.repository.storage.open import open_storage


def test_a_path_and_its_url_mean_the_same_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "with space"
    open_storage(str(folder), create=True).put_if_absent("config", b"c")
    monkeypatch.chdir(tmp_path)
    for url in (f"file://{tmp_path}/with%20space", f"file://localhost{tmp_path}/with%20space", "with space"):
        storage = open_storage(url)
        assert storage.get("config") == b"c"
        assert storage.location == str(folder)


def test_folders_above_are_made(tmp_path: Path) -> None:
    assert open_storage(str(tmp_path / "a/b/c"), create=True).put_if_absent("config", b"")


@pytest.mark.parametrize("url", ["s3://bucket/path", "sftp://host/x", "S3://b", "rest+https://host/"])
def test_other_schemes_are_named_and_refused(url: str) -> None:
    with pytest.raises(UnsupportedError, match=r"are not supported"):
        open_storage(url)


@pytest.mark.parametrize("url", ["", "file://", "file://server/share", "a\0b"])
def test_what_names_no_folder_is_refused(url: str) -> None:
    with pytest.raises(UsageError):
        open_storage(url)


def test_nothing_is_made_unless_asked(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no such folder"):
        open_storage(str(tmp_path / "absent"))
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for create in (False, True):
        with pytest.raises(StorageError, match="cannot open the folder"):
            open_storage(str(tmp_path / "file"), create=create)


def test_an_empty_folder_is_a_mount_point_without_its_mount(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no repository is there") as error:
        open_storage(str(tmp_path))
    assert "mounted" in error.value.hint


def test_a_repository_is_not_made_among_other_things(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").touch()
    with pytest.raises(UsageError, match="not empty"):
        open_storage(str(tmp_path), create=True)
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.jpg"]


def test_a_fresh_file_system_with_lost_and_found_will_do(tmp_path: Path) -> None:
    (tmp_path / "lost+found").mkdir()
    storage = open_storage(str(tmp_path), create=True)
    assert list(storage.list("")) == []


def test_making_what_is_there_already_changes_nothing(tmp_path: Path) -> None:
    open_storage(str(tmp_path / "r"), create=True).put_if_absent("config", b"c")
    assert open_storage(str(tmp_path / "r"), create=True).get("config") == b"c"


def test_a_copy_without_the_empty_folder_is_a_repository_still(tmp_path: Path) -> None:
    (tmp_path / "config").write_bytes(b"c")
    storage = open_storage(str(tmp_path))
    assert storage.get("config") == b"c"
    assert storage.put_if_absent("index/1", b"i")
