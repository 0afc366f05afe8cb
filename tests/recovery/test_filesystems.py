"""Parsers against the kernel, ntfs-3g, mtools and exfat-fuse on file systems made by their own tools."""

from __future__ import annotations

import hashlib
import os
import shutil
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from stillframe.disk.open import open_disk
from stillframe.errors import UnsupportedError
from stillframe.recovery.files import DiskFiles, Found, walk
from stillframe.recovery.filesystems.interface import Entry, EntryKind
from tests.recovery import trees
from tests.recovery.images import fill, fuse_mounted, make, mounted, run

pytestmark = pytest.mark.integration

SYMLINK, JUNCTION, DEDUPLICATED = 0xA000000C, 0xA0000003, 0x80000013


@contextmanager
def opened(image: Path, path: str = "/") -> Iterator[Found]:
    disk = open_disk(image)
    files = DiskFiles(disk)
    try:
        found = files.locate(path)
        assert found is not None
        yield found
    finally:
        files.close()
        disk.close()


def entries(found: Found) -> dict[str, Entry]:
    problems: list[str] = []
    listed = dict(walk(found, problems.append))
    assert problems == []
    return listed


@pytest.mark.parametrize(
    "command",
    [
        ("mke2fs", "-q", "-F", "-t", "ext2", "-b", "4096"),
        ("mke2fs", "-q", "-F", "-t", "ext4", "-b", "1024", "-I", "1024", "-O", "ea_inode"),
        ("mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096"),
        ("mkfs.xfs", "-q", "-f"),
    ],
    ids=["ext2", "ext4-1k", "ext4", "xfs"],
)
def test_a_parser_sees_all_that_the_kernel_sees(command: tuple[str, ...], tmp_path: Path) -> None:
    image = make(tmp_path / "image", 310 << 20, *command)
    with mounted(image, tmp_path / "mount") as folder:
        fill(folder)
    with mounted(image, tmp_path / "mount", "ro") as folder:
        expected = trees.by_kernel(folder)
    with opened(image) as found:
        assert found.file_system.info.journal_dirty is not True
        actual = trees.parsed(found)
    assert set(actual) == set(expected)
    for path in expected:
        assert actual[path] == expected[path], path


def test_a_name_of_ext_that_is_no_utf8_keeps_its_bytes(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    with open(os.fsencode(tree) + b"/bad\xff\xfename", "wb") as file:
        file.write(b"bytes")
    (tree / "good").touch()
    image = make(tmp_path / "image", 8 << 20, "mke2fs", "-q", "-F", "-t", "ext4", "-d", tree)
    with opened(image) as found:
        listed = entries(found)
        assert set(listed) == {"bad\udcff\udcfename", "good", "lost+found"}
        assert trees.content(found.file_system, listed["bad\udcff\udcfename"]) == b"bytes"


def test_a_name_of_xfs_that_is_no_utf8_is_said(tmp_path: Path) -> None:
    image = make(tmp_path / "image", 310 << 20, "mkfs.xfs", "-q", "-f")
    with mounted(image, tmp_path / "mount") as folder:
        Path(os.fsdecode(os.fsencode(folder) + b"/bad\xff")).touch()
        (folder / "good").touch()
    with opened(image) as found:
        listing = found.file_system.list(found.entry)
    assert [entry.name for entry in listing.entries] == ["good"]
    assert len(listing.problems) == 1


@pytest.fixture(scope="module")
def ntfs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """An NTFS image and the hashes of its files as ntfs-3g reads them."""
    base = tmp_path_factory.mktemp("ntfs")
    image = make(base / "image", 64 << 20, "mkntfs", "-F", "-Q", "-q", "-L", "Daten")
    with fuse_mounted(image, base / "mount", "ntfs-3g", "-o", "streams_interface=windows,compression") as m:
        _fill_ntfs(m)
    with fuse_mounted(image, base / "mount", "ntfs-3g", "-o", "ro") as m:
        names = [path for path in m.rglob("*") if path.is_file() and not path.is_symlink()]
        hashes = {str(p.relative_to(m)): hashlib.sha256(p.read_bytes()).hexdigest() for p in names}
    return image, hashes


def _fill_ntfs(folder: Path) -> None:
    docs = folder / "docs"
    docs.mkdir()
    (docs / "hello.txt").write_text("hello\n")
    (docs / "hello.txt:zone").write_text("stream one")
    (folder / "docs:of-folder").write_text("on a folder")
    (folder / "hard.txt").hardlink_to(docs / "hello.txt")
    (folder / "compressed").mkdir()
    os.setxattr(folder / "compressed", "system.ntfs_attrib_be", struct.pack(">I", 0x810))
    (folder / "compressed" / "text").write_bytes(b"compress me " * 100_000 + os.urandom(70_000))
    with (folder / "sparse").open("wb") as file:
        file.write(b"A" * 4096)
        os.pwrite(file.fileno(), b"B" * 5000, 5 << 20)
        file.truncate(8 << 20)
    (folder / "A long file name.text").write_text("long")
    os.setxattr(folder / "A long file name.text", "system.ntfs_dos_name", b"ALONGF~1.TEX")
    (folder / "many").mkdir()
    for number in range(500):
        (folder / "many" / f"file {number}").touch()
    os.utime(docs / "hello.txt", ns=(1_600_000_000_123_456_700, 1_500_000_000_765_432_100))
    (folder / "reparse").mkdir()
    _reparse(folder / "reparse" / "link", SYMLINK, struct.pack("<HHHHI", 0, 28, 28, 28, 1), "docs\\hello.txt")
    _reparse(folder / "reparse" / "dedup", DEDUPLICATED, b"12345678", "")


def _reparse(path: Path, tag: int, head: bytes, target: str) -> None:
    path.touch()
    body = head + target.encode("utf-16-le") * 2
    os.setxattr(path, "system.ntfs_reparse_data", struct.pack("<IHH", tag, len(body), 0) + body)


def test_ntfs_reads_what_ntfs_3g_reads(ntfs: tuple[Path, dict[str, str]]) -> None:
    image, hashes = ntfs
    with opened(image) as found:
        assert found.file_system.info.label == "Daten"
        listed = entries(found)
        files = {p: e for p, e in listed.items() if e.kind is EntryKind.FILE and "reparse" not in p}
        actual = {}
        for path, entry in files.items():
            data = trees.content(found.file_system, entry)
            assert trees.holes_are_zero(data, found.file_system.extents(entry)), path
            actual[path] = hashlib.sha256(data).hexdigest()
    assert actual == {path: digest for path, digest in hashes.items() if "reparse" not in path}


def test_ntfs_streams_links_times_and_flags(ntfs: tuple[Path, dict[str, str]]) -> None:
    with opened(ntfs[0]) as found:
        listed, system = entries(found), found.file_system
        hello = listed["docs/hello.txt"]
        assert trees.content(system, hello, "zone") == b"stream one"
        assert [stream.name for stream in listed["docs"].streams] == ["of-folder"]
        assert hello.link_key == listed["hard.txt"].link_key is not None
        assert listed["sparse"].link_key is None
        assert hello.times.modified_ns == 1_500_000_000_765_432_100
        assert "compressed" in listed["compressed/text"].flags
        assert "sparse" in listed["sparse"].flags
        assert "ALONGF~1.TEX" not in listed  # short names are another word for the same file
        assert listed["A long file name.text"].link_key is None
        assert not any(path.startswith("$") for path in listed)
        assert "system.ntfs_acl" in system.xattrs(hello)


def test_ntfs_reparse_points_are_links_or_refused(ntfs: tuple[Path, dict[str, str]]) -> None:
    with opened(ntfs[0]) as found:
        listed = entries(found)
        assert listed["reparse/link"].kind is EntryKind.SYMLINK
        assert found.file_system.symlink_target(listed["reparse/link"]) == "docs/hello.txt"
        with pytest.raises(UnsupportedError, match="0x80000013"):
            found.file_system.read_into(listed["reparse/dedup"], 0, memoryview(bytearray(0)))


def test_a_path_finds_names_of_ntfs_in_any_case_and_streams(ntfs: tuple[Path, dict[str, str]]) -> None:
    with opened(ntfs[0], "/DOCS/Hello.TXT:ZONE") as found:
        assert (found.path, found.stream, found.size_bytes) == ("/docs/hello.txt", "zone", 10)


def test_an_ntfs_volume_marked_dirty_is_said(ntfs: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    image = shutil.copy(ntfs[0], tmp_path / "dirty")
    with opened(ntfs[0]) as found:
        assert found.file_system.info.journal_dirty is False
    data = bytearray(image.read_bytes())
    record = data.index(b"FILE", data.index("$Volume".encode("utf-16-le")) - 1024)
    position = record + struct.unpack_from("<H", data, record + 20)[0]
    while struct.unpack_from("<I", data, position)[0] != 0x70:
        position += struct.unpack_from("<I", data, position + 4)[0]
    value = position + struct.unpack_from("<H", data, position + 20)[0]
    data[value + 10] |= 1  # VOLUME_IS_DIRTY
    image.write_bytes(data)
    with opened(image) as found:
        assert found.file_system.info.journal_dirty is True


def test_fat32_as_mtools_wrote_it(tmp_path: Path) -> None:
    tree = _plain_tree(tmp_path)
    image = make(tmp_path / "image", 64 << 20, "mkfs.fat", "-F", "32", "-n", "EFI")
    run("mcopy", "-s", "-m", "-i", image, *tree.iterdir(), "::/")
    _compare_plain(image, tree, "fat32", "EFI")


def test_exfat_as_exfat_fuse_wrote_it(tmp_path: Path) -> None:
    tree = _plain_tree(tmp_path)
    image = make(tmp_path / "image", 64 << 20, "mkfs.exfat", "-L", "Karte")
    with fuse_mounted(image, tmp_path / "mount", "mount.exfat-fuse") as folder:
        shutil.copytree(tree, folder, dirs_exist_ok=True)
        for path in tree.rglob("*"):
            status = path.stat()
            os.utime(folder / path.relative_to(tree), (status.st_atime, status.st_mtime))
    _compare_plain(image, tree, "exfat", "Karte")


def _plain_tree(base: Path) -> Path:
    tree = base / "tree"
    (tree / "sub" / "deeper").mkdir(parents=True)
    (tree / "A long file name.bin").write_bytes(os.urandom(1 << 20))
    (tree / "sub" / "empty").touch()
    for number in range(200):
        (tree / "sub" / "deeper" / f"f{number}").write_text(str(number))
    moment = datetime(2021, 3, 4, 5, 6, 8, tzinfo=UTC).timestamp()
    for path in [*tree.rglob("*")]:
        os.utime(path, (moment, moment))
    return tree


def _compare_plain(image: Path, tree: Path, kind: str, label: str) -> None:
    with opened(image) as found:
        assert (found.file_system.info.kind, found.file_system.info.label) == (kind, label)
        listed = entries(found)
        assert set(listed) == {str(path.relative_to(tree)) for path in tree.rglob("*")}
        for path, entry in listed.items():
            original = tree / path
            if original.is_file():
                assert trees.content(found.file_system, entry) == original.read_bytes()
                assert entry.times.modified_ns == original.stat().st_mtime_ns
