import os
from errno import EPERM
from pathlib import Path

import pytest

from stillframe.disk import staged
from stillframe.disk.staged import CannotWriteError, StagedFile, publish
from stillframe.errors import UsageError


def names(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


def test_the_name_appears_whole_and_the_temporary_one_goes(tmp_path: Path) -> None:
    made = StagedFile(tmp_path / "disk")
    made.write(3, b"abc")
    assert len(names(tmp_path)) == 1
    assert not (tmp_path / "disk").exists()
    made.publish()
    assert names(tmp_path) == ["disk"]
    assert (tmp_path / "disk").read_bytes() == b"\0\0\0abc"


def test_the_contents_are_durable_before_the_name_and_the_name_on_return(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = StagedFile(tmp_path / "disk")
    steps: list[str] = []
    sync, link = os.fsync, os.link

    def note_sync(descriptor: int) -> None:
        is_folder = os.path.isdir(f"/proc/self/fd/{descriptor}")
        steps.append("fsync folder" if is_folder else "fsync file")
        sync(descriptor)

    def note_link(*arguments: object, **options: object) -> None:
        steps.append("link")
        link(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(os, "link", note_link)
    made.publish()
    assert steps == ["fsync file", "link", "fsync folder"]


@pytest.mark.parametrize("links_work", [True, False])
def test_a_name_taken_meanwhile_is_not_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links_work: bool
) -> None:
    if not links_work:
        monkeypatch.setattr(os, "link", no_links)
    made = StagedFile(tmp_path / "disk")
    (tmp_path / "disk").write_bytes(b"somebody's")
    with pytest.raises(CannotWriteError, match="File exists"):
        made.publish()
    made.discard()
    assert names(tmp_path) == ["disk"]
    assert (tmp_path / "disk").read_bytes() == b"somebody's"


def no_links(*_arguments: object, **_options: object) -> None:
    raise OSError(EPERM, "Operation not permitted")


def test_file_systems_without_links_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "link", no_links)
    made = StagedFile(tmp_path / "disk")
    made.write(0, b"abc")
    made.publish()
    assert names(tmp_path) == ["disk"]
    assert (tmp_path / "disk").read_bytes() == b"abc"


def test_a_rename_that_fails_leaves_no_empty_file_under_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "link", no_links)
    monkeypatch.setattr(os, "rename", no_links)
    (tmp_path / "temporary").touch()
    with pytest.raises(OSError, match="not permitted"):
        publish(tmp_path / "temporary", tmp_path / "disk")
    assert names(tmp_path) == ["temporary"]


def test_discard_removes_everything_and_is_harmless_after_publish(tmp_path: Path) -> None:
    StagedFile(tmp_path / "given-up").discard()
    assert names(tmp_path) == []
    made = StagedFile(tmp_path / "disk")
    made.publish()
    made.discard()
    assert names(tmp_path) == ["disk"]


def test_what_exists_is_refused_even_a_dangling_link(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="exists already"):
        StagedFile(tmp_path / "link")


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(CannotWriteError, match=r"no-such-folder.*No such file"):
        StagedFile(tmp_path / "no-such-folder" / "disk")


def test_short_writes_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda descriptor, data, at: write(descriptor, data[:3], at))
    made = StagedFile(tmp_path / "disk")
    staged.write_all(made.descriptor, 1, b"abcdefgh")
    made.publish()
    assert (tmp_path / "disk").read_bytes() == b"\0abcdefgh"
