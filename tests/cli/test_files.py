from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from stillframe.cli.files import app
from stillframe.errors import StillframeError, UsageError
from stillframe.recovery.files import NotFoundError
from tests.recovery.images import make, mbr

pytestmark = pytest.mark.integration


def files(*words: str | Path) -> Result:
    result = CliRunner().invoke(app, [str(word) for word in words])
    if isinstance(result.exception, StillframeError):
        raise result.exception
    return result


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A disk without a partition table."""
    base = tmp_path_factory.mktemp("disk")
    tree = base / "tree"
    (tree / "etc").mkdir(parents=True)
    (tree / "etc" / "hostname").write_text("box\n")
    (tree / "etc" / "terminal\x1b[2J").write_text("")
    (tree / "etc" / "link").symlink_to("hostname")
    (tree / "data.bin").write_bytes(os.urandom(2_500_000))
    return make(
        base / "disk:with colon.img", 8 << 20, "mke2fs", "-q", "-F", "-t", "ext4", "-L", "root", "-d", tree
    )


@pytest.fixture(scope="module")
def parted(whole: Path) -> Path:
    """The same in the second partition of a disk."""
    path = whole.parent / "parted.img"
    data = mbr([(0x82, 64, 64), (0x83, 2048, 16384)]).ljust(2048 * 512, b"\0") + whole.read_bytes()
    path.write_bytes(data)
    return path


def test_ls_lists_a_folder(whole: Path) -> None:
    result = files("ls", f"{whole}:/")
    assert result.stdout.splitlines() == ["data.bin", "etc/", "lost+found/"]
    assert result.exit_code == 0


def test_ls_long_escapes_what_would_drive_the_terminal(whole: Path) -> None:
    lines = files("ls", "-l", f"{whole}:/etc").stdout.splitlines()
    assert lines[0].startswith("-rw")
    assert lines[0].endswith("hostname")
    assert lines[1].endswith("link -> hostname")
    assert "\\x1b[2J" in lines[2]


def test_ls_recursive_json_says_all_that_is_known(whole: Path) -> None:
    listing = json.loads(files("ls", "-R", "--json", f"{whole}:").stdout)
    assert (listing["file_system"], listing["label"], listing["journal_dirty"]) == ("ext", "root", False)
    by_path = {entry["path"]: entry for entry in listing["entries"]}
    assert by_path["etc/hostname"]["size_bytes"] == 4
    assert by_path["etc/link"]["target"] == "hostname"
    assert listing["problems"] == []


def test_ls_of_a_parted_disk_lists_volumes(parted: Path) -> None:
    rows = json.loads(files("ls", "--json", f"{parted}").stdout)["volumes"]
    assert [(row["name"], row["kind"], row["label"]) for row in rows] == [
        ("p1", "", ""),
        ("p2", "ext", "root"),
    ]
    assert "p2" in files("ls", f"{parted}:/").stdout
    assert files("ls", f"{parted}:/p2/etc").stdout.splitlines()[0] == "hostname"


def test_cat_writes_exactly_the_file(whole: Path, parted: Path) -> None:
    expected = (whole.parent / "tree" / "data.bin").read_bytes()
    assert files("cat", f"{whole}:/data.bin").stdout_bytes == expected
    assert files("cat", f"{parted}:p2/data.bin").stdout_bytes == expected


def test_find_names_volume_and_path(whole: Path, parted: Path) -> None:
    assert files("find", whole, "host*").stdout == "/etc/hostname\n"
    assert files("find", parted, "host*").stdout == "/p2/etc/hostname\n"
    assert files("find", f"{parted}:/p2/etc", "host*").stdout == "/p2/etc/hostname\n"


def test_restore_makes_the_tree_again(parted: Path, tmp_path: Path) -> None:
    result = files("restore", f"{parted}:/p2/etc", f"{parted}:/p2/data.bin", "--to", tmp_path / "out")
    assert result.exit_code == 0
    assert (tmp_path / "out" / "etc" / "hostname").read_text() == "box\n"
    assert (tmp_path / "out" / "etc" / "link").is_symlink()
    original = parted.parent / "tree" / "data.bin"
    assert (tmp_path / "out" / "data.bin").read_bytes() == original.read_bytes()
    with pytest.raises(UsageError, match="exists already"):
        files("restore", f"{parted}:/p2/etc", "--to", tmp_path / "out")
    assert files("restore", f"{parted}:/p2/etc", "--to", tmp_path / "out", "--force").exit_code == 0


def test_a_dry_run_writes_nothing(whole: Path, tmp_path: Path) -> None:
    result = files("restore", f"{whole}:/etc", "--to", tmp_path / "out", "--dry-run")
    assert [line.split()[-1] for line in result.stdout.splitlines()][:2] == ["etc", "etc/hostname"]
    assert not (tmp_path / "out").exists()


def test_a_dirty_journal_is_said_with_what_to_do(whole: Path, tmp_path: Path) -> None:
    image = tmp_path / "dirty.img"
    shutil.copy(whole, image)
    with image.open("r+b") as file:
        file.seek(1024 + 0x60)
        flags = int.from_bytes(file.read(4), "little")
        file.seek(1024 + 0x60)
        file.write((flags | 4).to_bytes(4, "little"))
    result = files("ls", f"{image}:/")
    assert "journal was not replayed" in result.stderr
    assert "--guest" in result.stderr
    assert json.loads(files("ls", "--json", f"{image}:/").stdout)["journal_dirty"] is True
    assert "journal not replayed" in files("ls", _parted(image, tmp_path)).stdout


def _parted(image: Path, folder: Path) -> Path:
    path = folder / "parted.img"
    path.write_bytes(mbr([(0x83, 2048, 16384)]).ljust(2048 * 512, b"\0") + image.read_bytes())
    return path


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("/missing", NotFoundError),
        ("/etc/hostname/below", NotFoundError),
        ("/etc/link/below", UsageError),
        ("/../etc", UsageError),
    ],
)
def test_a_path_that_leads_nowhere_is_named(path: str, error: type[StillframeError], whole: Path) -> None:
    with pytest.raises(error):
        files("ls", f"{whole}:{path}")


def test_a_volume_that_is_not_there_lists_those_that_are(parted: Path) -> None:
    with pytest.raises(NotFoundError) as caught:
        files("ls", f"{parted}:/p7")
    assert "p1, p2" in caught.value.hint


def test_what_is_no_disk_is_a_usage_error() -> None:
    with pytest.raises(UsageError):
        files("ls", "/nowhere/disk.img:/")
    with pytest.raises(UsageError, match="exclude"):
        files("ls", "--guest", "--host-kernel", "x")
