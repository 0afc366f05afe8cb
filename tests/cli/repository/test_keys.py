"""What opens a repository, and what does not."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from tests.cli.repository.conftest import PASSPHRASE, Run


def recovery_key_of(run: Run, url: Path) -> str:
    made = run("repo", "init", "--repo", url, "--json")
    assert made.code == 0
    return str(made.json["recovery_key"])


def test_init_shows_the_recovery_key_once_and_says_to_keep_it(
    bare: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STILLFRAME_PASSPHRASE", PASSPHRASE)
    made = bare("repo", "init", "--repo", tmp_path / "new")
    assert made.code == 0
    key = made.out.splitlines()[2].strip()
    assert len(key.replace("-", "")) == 56
    assert "keep it elsewhere" in made.out
    monkeypatch.setenv("STILLFRAME_PASSPHRASE", key.lower().replace("-", " "))
    assert bare("points", "--repo", tmp_path / "new").code == 0


def test_init_as_json(run: Run, tmp_path: Path) -> None:
    made = run("repo", "init", "--repo", tmp_path / "other", "--block-size", "128KiB", "--json").json
    assert made["block_bytes"] == 128 << 10
    assert set(made) == {
        "repository",
        "repository_id",
        "created",
        "block_bytes",
        "fan_out",
        "pack_bytes",
        "compression",
        "recovery_key",
    }


def test_init_changes_nothing_that_is_there(run: Run, repository: Path) -> None:
    before = (repository / "config").read_bytes()
    again = run("repo", "init")
    assert again.code == 2
    assert "there is a repository already" in again.err
    assert (repository / "config").read_bytes() == before


@pytest.mark.parametrize("size", ["1K", "32M", "96K", "x"])
def test_init_refuses_block_sizes_that_no_repository_can_have(run: Run, tmp_path: Path, size: str) -> None:
    assert run("repo", "init", "--repo", tmp_path / "other", "--block-size", size).code == 2
    assert not (tmp_path / "other").exists()


def test_init_refuses_unknown_compression(run: Run, tmp_path: Path) -> None:
    refused = run("repo", "init", "--repo", tmp_path / "other", "--compression", "lzma:9")
    assert refused.code == 2
    assert "'lzma:9' is unknown" in refused.err


def test_a_wrong_passphrase_is_one_clear_line_and_code_3(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STILLFRAME_PASSPHRASE", "wrong")
    for command in (
        ("points",),
        ("repo", "info"),
        ("repo", "check"),
        ("repo", "collect"),
        ("repo", "key", "passwd"),
    ):
        refused = run(*command)
        assert refused.code == 3
        assert "the passphrase or recovery key is wrong" in refused.err.splitlines()[0]
        assert "Traceback" not in refused.err
        assert refused.out == ""


def test_a_mistyped_recovery_key_is_wrong(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = recovery_key_of(run, tmp_path / "other")
    monkeypatch.setenv("STILLFRAME_PASSPHRASE", ("B" if key[0] == "A" else "A") + key[1:])
    assert run("points", "--repo", tmp_path / "other").code == 3


@pytest.mark.parametrize("folder", ["missing", "empty"])
def test_no_repository_there(run: Run, tmp_path: Path, folder: str) -> None:
    (tmp_path / "empty").mkdir()
    refused = run("points", "--repo", tmp_path / folder)
    assert refused.code == 6  # nothing is concluded from it: the file system may just not be mounted
    assert "repo init" in refused.err


def test_the_repository_has_to_be_named(bare: Run) -> None:
    refused = bare("points")
    assert refused.code == 2
    assert "--repo" in refused.err


def test_nothing_to_open_it_with(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STILLFRAME_PASSPHRASE")
    monkeypatch.setattr("sys.stdin.isatty", lambda: False)
    refused = run("points")
    assert refused.code == 2
    assert "--passphrase-file" in refused.err


def test_a_prompt_where_somebody_sits(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STILLFRAME_PASSPHRASE")
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("getpass.getpass", lambda prompt: PASSPHRASE)
    assert run("points").code == 0


def test_init_asks_twice(bare: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter(["one", "other"])
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("getpass.getpass", lambda prompt: next(answers))
    refused = bare("repo", "init", "--repo", tmp_path / "new")
    assert refused.code == 2
    assert "not the same" in refused.err
    assert not (tmp_path / "new" / "config").exists()


@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
def test_a_passphrase_file_may_end_its_line(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    monkeypatch.setenv("STILLFRAME_PASSPHRASE", "wrong")
    file = tmp_path / "passphrase"
    file.write_bytes(PASSPHRASE.encode() + ending.encode())
    assert run("points", "--passphrase-file", file).code == 0


@pytest.mark.parametrize("contents", [b"", b"\n", b"\xff\xfe"])
def test_a_useless_passphrase_file(run: Run, tmp_path: Path, contents: bytes) -> None:
    file = tmp_path / "passphrase"
    file.write_bytes(contents)
    refused = run("points", "--passphrase-file", file)
    assert refused.code == 2
    assert str(file) in refused.err


def test_a_second_passphrase_opens_until_it_is_removed(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STILLFRAME_NEW_PASSPHRASE", "second")
    added = run("repo", "key", "add", "--label", "for the deputy", "--json").json
    assert (added["kind"], added["label"]) == ("passphrase", "for the deputy")
    monkeypatch.setenv("STILLFRAME_PASSPHRASE", "second")
    assert run("points").code == 0
    monkeypatch.setenv("STILLFRAME_PASSPHRASE", PASSPHRASE)
    assert run("repo", "key", "remove", added["slot"][:6]).code == 0
    monkeypatch.setenv("STILLFRAME_PASSPHRASE", "second")
    assert run("points").code == 3


def test_a_further_recovery_key(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    added = run("repo", "key", "add", "--recovery", "--json").json
    monkeypatch.setenv("STILLFRAME_PASSPHRASE", added["recovery_key"])
    assert run("points").code == 0


def test_keys_are_listed_without_any_key(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STILLFRAME_PASSPHRASE")
    listed = run("repo", "key", "list", "--json").json
    assert sorted(slot["kind"] for slot in listed) == ["passphrase", "recovery"]
    assert all(set(slot) == {"slot", "kind", "created", "label"} for slot in listed)
    assert "recovery" in run("repo", "key", "list").out


def test_the_last_way_in_cannot_be_removed(run: Run) -> None:
    slots = {slot["kind"]: slot["slot"] for slot in run("repo", "key", "list", "--json").json}
    assert run("repo", "key", "remove", slots["recovery"]).code == 0
    refused = run("repo", "key", "remove", slots["passphrase"])
    assert refused.code == 2
    assert "is the last slot" in refused.err
    assert run("points").code == 0


@pytest.mark.parametrize("slot", ["", "zz"])
def test_removing_needs_one_slot(run: Run, slot: str) -> None:
    refused = run("repo", "key", "remove", slot)
    assert refused.code == 2
    assert "there is no such slot" in refused.err


def test_passwd_replaces_the_passphrase_that_is_given(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    before = run("repo", "key", "list", "--json").json
    monkeypatch.setenv("STILLFRAME_NEW_PASSPHRASE", "better")
    assert run("repo", "key", "passwd").code == 0
    after = run("repo", "key", "list", "--json").json
    assert len(after) == len(before) == 2
    assert run("points").code == 3
    monkeypatch.setenv("STILLFRAME_PASSPHRASE", "better")
    assert run("points").code == 0


def test_passwd_does_not_replace_a_recovery_key(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = tmp_path / "other"
    monkeypatch.setenv("STILLFRAME_PASSPHRASE", recovery_key_of(run, url))
    monkeypatch.setenv("STILLFRAME_NEW_PASSPHRASE", "better")
    refused = run("repo", "key", "passwd", "--repo", url)
    assert refused.code == 2
    assert "key add" in refused.err


def test_a_new_slot_is_there_before_the_old_one_goes(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from stillframe.repository.storage.base import StorageError
    from stillframe.repository.storage.local import LocalStorage

    def fail(self: LocalStorage, name: str) -> None:
        raise StorageError("unplugged")

    monkeypatch.setenv("STILLFRAME_NEW_PASSPHRASE", "better")
    with monkeypatch.context() as broken:
        broken.setattr(LocalStorage, "delete", fail)
        assert run("repo", "key", "passwd").code == 6
    for passphrase in (PASSPHRASE, "better"):
        monkeypatch.setenv("STILLFRAME_PASSPHRASE", passphrase)
        assert run("points").code == 0


def test_a_writer_can_back_up_and_list_but_not_read(
    run: Run, tmp_path: Path, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "writer.json"
    assert run("repo", "key", "export-writer", file).code == 0
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert run("repo", "key", "export-writer", file).code == 2  # never over an existing file
    monkeypatch.delenv("STILLFRAME_PASSPHRASE")
    monkeypatch.setenv("STILLFRAME_KEY_FILE", str(file))
    assert run("backup", "image", disk, "--machine", "web").code == 0
    assert run("backup", "image", disk, "--machine", "web", "--key-file", file).code == 0
    assert len(run("points", "--json").json) == 2
    assert run("repo", "info", "--json").json["can_read"] is False
    assert run("repo", "check").code == 0
    assert run("restore", "disk", "web@latest", disk.name, tmp_path / "out.raw").code == 3
    assert not (tmp_path / "out.raw").exists()
    for command in (("key", "add", "--recovery"), ("key", "remove", "ab"), ("check", "--read-data")):
        assert run("repo", *command).code == 3


def test_a_passphrase_goes_before_a_credential_of_the_environment(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STILLFRAME_KEY_FILE", str(tmp_path / "missing"))
    assert run("points").code == 0


def test_a_credential_of_another_repository(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "writer.json"
    run("repo", "init", "--repo", tmp_path / "other")
    run("repo", "key", "export-writer", file, "--repo", tmp_path / "other")
    refused = run("points", "--key-file", file)
    assert refused.code == 3
    assert "not of this one" in refused.err


@pytest.mark.parametrize("contents", ["", "[]", "{}", '{"stillframe": "writer credential"}'])
def test_what_is_no_credential(run: Run, tmp_path: Path, contents: str) -> None:
    file = tmp_path / "writer.json"
    file.write_text(contents)
    refused = run("points", "--key-file", file)
    assert refused.code == 4
    assert str(file) in refused.err


def test_two_keys_at_once_are_refused(run: Run, tmp_path: Path) -> None:
    assert run("points", "--key-file", tmp_path / "a", "--passphrase-file", tmp_path / "b").code == 2


def test_the_check_names_a_damaged_slot(run: Run, repository: Path) -> None:
    assert run("repo", "key", "add", "--recovery").code == 0
    slot = repository / "keys" / run("repo", "key", "list", "--json").json[-1]["slot"]
    assert run("repo", "check").code == 0
    slot.chmod(0o600)
    slot.write_bytes(slot.read_bytes()[:-9])
    checked = run("repo", "check")
    assert checked.code == 1
    assert f"keys/{slot.name}: is no key slot" in checked.out


def test_a_damaged_slot_is_named_to_who_is_locked_out(run: Run, repository: Path) -> None:
    slots = sorted((repository / "keys").iterdir())
    for slot in slots:
        slot.chmod(0o600)
        slot.write_bytes(b"")
    refused = run("points")
    assert refused.code == 3
    assert f"damaged: keys/{slots[0].name}" in refused.err


def test_a_credential_that_cannot_be_written_leaves_nothing(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fdopen", full)
        refused = run("repo", "key", "export-writer", tmp_path / "writer.json")
    assert refused.code == 1
    assert "writer.json: cannot be written: No space left on device" in refused.err
    assert not (tmp_path / "writer.json").exists()
