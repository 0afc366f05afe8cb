"""Finding parents: where they may lie, whether they are the right ones, and where a chain ends."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest

from stillframe.disk.parents import MAX_CHAIN_DEPTH, ParentNotFoundError
from stillframe.disk.reader import FileReader
from stillframe.disk.vhdx import chain, open_vhdx
from stillframe.disk.vhdx.errors import LocatorError, UnsupportedVhdxError, WrongParentError
from stillframe.errors import CorruptInputError
from tests.disk.vhdx import builder as by_hand
from tests.disk.vhdx.builder import BLOCKS_AT, DATA_WRITE_ID, LOCATOR, MIB, DiskBuilder, HeaderFields, present
from tests.disk.vhdx.reading import kinds, open_file, read

CHILD_ID = UUID(int=77)
PARENT = DiskBuilder(entries={0: present(BLOCKS_AT)}, pieces=((BLOCKS_AT, b"parent"),))


def child(linkage: UUID = DATA_WRITE_ID, data_write_id: UUID = CHILD_ID, **paths: str) -> DiskBuilder:
    pairs = {"parent_linkage": f"{{{linkage}}}", **paths}
    return DiskBuilder(parent=pairs, header=HeaderFields(data_write_id=data_write_id))


def folders(root: Path) -> tuple[Path, Path]:
    (root / "child").mkdir()
    (root / "parents").mkdir()
    PARENT.write(root / "parents" / "base.vhdx")
    return root / "child" / "child.vhdx", root / "parents"


@pytest.mark.parametrize(
    "name", ["base.vhdx", ".\\base.vhdx", "..\\own\\base.vhdx", "..\\elsewhere\\base.vhdx"]
)
def test_relative_path_in_the_own_folder(tmp_path: Path, name: str) -> None:
    own = tmp_path / "own"
    own.mkdir()
    PARENT.write(own / "base.vhdx")
    disk = open_file(child(relative_path=name).write(own / "child.vhdx"))
    assert read(disk, 0, 6) == b"parent"
    assert disk.info.chain == (str(own / "base.vhdx"),)
    assert disk.info.parent_locator is not None
    assert disk.info.parent_locator.relative_path == name


@pytest.mark.parametrize(
    "paths",
    [
        {"relative_path": "..\\parents\\base.vhdx"},
        {"absolute_win32_path": "\\\\?\\d:\\machines\\base.vhdx"},
        {"absolute_win32_path": "D:\\machines\\base.vhdx"},
        {"relative_path": ".\\moved away.vhdx", "absolute_win32_path": "D:\\machines\\base.vhdx"},
    ],
)
def test_in_another_folder_only_if_the_caller_allows_it(tmp_path: Path, paths: dict[str, str]) -> None:
    path, parents = folders(tmp_path)
    child(**paths).write(path)
    with pytest.raises(ParentNotFoundError):
        open_file(path)
    assert read(open_file(path, [parents]), 0, 6) == b"parent"


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    path, parents = folders(tmp_path)
    (path.parent / "base.vhdx").symlink_to(parents / "base.vhdx")
    child(relative_path="base.vhdx").write(path)
    with pytest.raises(ParentNotFoundError, match="outside the folders"):
        open_file(path)
    assert read(open_file(path, [parents]), 0, 6) == b"parent"


@pytest.mark.parametrize(
    "paths",
    [
        {"volume_path": "\\\\?\\Volume{26A21BDA-A627-11D7-9931-806E6F6E6963}\\base.vhdx"},
        {"relative_path": "..\\..\\..\\..\\..\\..\\etc\\passwd"},
        {"absolute_win32_path": "/etc/passwd"},
        {"absolute_win32_path": "\\\\server\\share\\elsewhere.vhdx"},
        {"relative_path": "x" * 5000},
        {"relative_path": ".."},
    ],
)
def test_paths_that_are_never_followed(tmp_path: Path, paths: dict[str, str]) -> None:
    PARENT.write(tmp_path / "base.vhdx")
    with pytest.raises(ParentNotFoundError):
        open_file(child(**paths).write(tmp_path / "child.vhdx"))


def test_without_a_path_there_is_no_parent() -> None:
    with pytest.raises(ParentNotFoundError):
        open_vhdx(child(relative_path="base.vhdx").reader(), path=None)


def test_a_parent_that_was_changed_is_refused(tmp_path: Path) -> None:
    PARENT.write(tmp_path / "base.vhdx")
    path = child(UUID(int=5), relative_path="base.vhdx").write(tmp_path / "child.vhdx")
    with pytest.raises(WrongParentError, match=str(DATA_WRITE_ID)):
        open_file(path)


def test_the_second_linkage_is_accepted(tmp_path: Path) -> None:
    PARENT.write(tmp_path / "base.vhdx")
    second = f"{{{DATA_WRITE_ID}}}".upper()
    path = child(UUID(int=5), relative_path="base.vhdx", parent_linkage2=second).write(
        tmp_path / "child.vhdx"
    )
    assert read(open_file(path), 0, 6) == b"parent"


def test_a_parent_with_other_sectors_is_refused(tmp_path: Path) -> None:
    PARENT.with_(logical=4096).write(tmp_path / "base.vhdx")
    path = child(relative_path="base.vhdx").write(tmp_path / "child.vhdx")
    with pytest.raises(WrongParentError, match="512"):
        open_file(path)


def test_cycle(tmp_path: Path) -> None:
    one, two = UUID(int=1), UUID(int=2)
    child(two, one, relative_path="two.vhdx").write(tmp_path / "one.vhdx")
    child(one, two, relative_path="one.vhdx").write(tmp_path / "two.vhdx")
    with pytest.raises(CorruptInputError, match="cycle"):
        open_file(tmp_path / "one.vhdx")


def test_its_own_parent(tmp_path: Path) -> None:
    path = child(CHILD_ID, relative_path="child.vhdx").write(tmp_path / "child.vhdx")
    with pytest.raises(CorruptInputError, match="cycle"):
        open_file(path)


def chain_of(folder: Path, depth: int) -> Path:
    """``depth`` files, the base included."""
    base = replace(PARENT.header, data_write_id=UUID(int=1))
    path = PARENT.with_(header=base).write(folder / "1.vhdx")
    for level in range(2, depth + 1):
        builder = child(UUID(int=level - 1), UUID(int=level), relative_path=f"{level - 1}.vhdx")
        path = builder.write(folder / f"{level}.vhdx")
    return path


def test_depth_is_bounded(tmp_path: Path) -> None:
    deepest = chain_of(tmp_path, MAX_CHAIN_DEPTH)
    disk = open_file(deepest)
    assert read(disk, 0, 6) == b"parent"
    assert len(disk.info.chain) == MAX_CHAIN_DEPTH - 1
    disk.close()
    one_more = child(UUID(int=MAX_CHAIN_DEPTH), UUID(int=99), relative_path=f"{MAX_CHAIN_DEPTH}.vhdx").write(
        tmp_path / "deeper.vhdx"
    )
    with pytest.raises(CorruptInputError, match="deeper"):
        open_file(one_more)


@pytest.mark.parametrize("damaged", [1, 2])
def test_all_that_was_opened_is_closed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damaged: int
) -> None:
    path = chain_of(tmp_path, 3)
    (tmp_path / f"{damaged}.vhdx").write_bytes(b"nothing" * 300_000)
    opened: list[FileReader] = []

    class Counted(FileReader):
        def __init__(self, path: Path) -> None:
            super().__init__(path)
            opened.append(self)

    monkeypatch.setattr(chain, "FileReader", Counted)
    with pytest.raises(CorruptInputError):
        open_file(path)
    assert len(opened) == 3 - damaged
    assert all(reader.fileno() == -1 for reader in opened)


def test_a_child_may_be_larger_or_smaller_than_its_parent(tmp_path: Path) -> None:
    blocks = {index: present(BLOCKS_AT + index * MIB) for index in range(8)}
    blocks[8] = present(BLOCKS_AT)  # behind the end of the parent's disk: means nothing
    full = DiskBuilder(entries=blocks, pieces=((BLOCKS_AT, b"p" * 8 * MIB),)).write(tmp_path / "base.vhdx")
    assert full.exists()
    larger = child(relative_path="base.vhdx").with_(disk_bytes=10 * MIB).write(tmp_path / "larger.vhdx")
    assert read(open_file(larger), 7 * MIB) == b"p" * MIB + bytes(2 * MIB)
    assert kinds(list(open_file(larger).extents())) == [("data", 0, 8), ("unmapped", 8, 2)]
    smaller = child(relative_path="base.vhdx").with_(disk_bytes=3 * MIB).write(tmp_path / "smaller.vhdx")
    assert read(open_file(smaller)) == b"p" * 3 * MIB


def locator_error(item: bytes) -> DiskBuilder:
    return DiskBuilder(parameter_flags=2, extra_items=((LOCATOR, 4, item),))


PAIRS = {"parent_linkage": f"{{{DATA_WRITE_ID}}}", "relative_path": "base.vhdx"}
GOOD = by_hand.locator(PAIRS)


def patched(offset: int, piece: bytes) -> bytes:
    return GOOD[:offset] + piece + GOOD[offset + len(piece) :]


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (b"short", "only 5 bytes"),
        (patched(18, b"\0\0"), "0 pairs"),
        (patched(18, b"\xff\xff"), "65535 pairs"),
        (patched(20, b"\xff\xff\xff\xff"), "a string at 4294967295"),
        (patched(28, b"\x03\x00"), "a string at"),
        (patched(28, b"\xfe\xff"), "overlap"),
        (patched(44, b"\x00\xd8"), "utf-16"),
        (patched(44, b"\x00\x00"), "NUL"),
        (by_hand.locator({"relative_path": "base.vhdx"}), "'parent_linkage' is missing"),
        (by_hand.locator({"parent_linkage": "{not an id}", "relative_path": "x"}), "badly formed"),
    ],
)
def test_malformed_locators(item: bytes, message: str) -> None:
    with pytest.raises(LocatorError, match=message):
        open_vhdx(locator_error(item).reader(), path=None)


def test_a_parent_of_another_kind() -> None:
    item = by_hand.locator(PAIRS, kind=UUID(int=3))
    with pytest.raises(UnsupportedVhdxError, match="unknown type"):
        open_vhdx(locator_error(item).reader(), path=None)


def test_log_descriptors_are_bounded_over_the_whole_chain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chain, "MAX_REPLAYED_DESCRIPTORS", 3)
    zeros = (by_hand.Zero(BLOCKS_AT, 4096),) * 2
    by_hand.dirty(PARENT, by_hand.EntryFields(0, 7, zeros)).write(tmp_path / "base.vhdx")
    path = by_hand.dirty(child(relative_path="base.vhdx"), by_hand.EntryFields(0, 7, zeros)).write(
        tmp_path / "child.vhdx"
    )
    with pytest.raises(UnsupportedVhdxError, match="4 log descriptors"):
        open_file(path)
