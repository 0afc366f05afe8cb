import bz2
import os
import shutil
from pathlib import Path

import pytest

from stillframe.disk.create import FORMATS, DiskFormat, create_disk, format_of_name
from stillframe.disk.describe import facts_of
from stillframe.disk.open import open_disk
from stillframe.disk.stamp import DiskChangedError, check_unchanged, still_stamp
from stillframe.disk.still import Extent, ExtentKind, Geometry
from stillframe.errors import CorruptInputError, StillframeError, UsageError
from tests.disk.disks import MemoryDisk, check_extents, read_file
from tests.disk.qcow2.images import CONTENTS, image
from tests.disk.vhd.shapes import MIB, make_vhd

DATA = Path(__file__).parents[1] / "data" / "disks"


def make(path: Path, format: DiskFormat) -> Path:
    target = create_disk(path, Geometry(8 * MIB), format=format, deterministic=True)
    target.write(MIB, b"here")
    target.finish()
    return path


@pytest.mark.parametrize("format", ["vhdx", "vhd", "raw"])
def test_the_contents_tell_the_format_and_the_name_does_not(tmp_path: Path, format: DiskFormat) -> None:
    for name in ("disk", "disk.vhdx", "disk.qcow2", "disk.raw"):
        disk = open_disk(make(tmp_path / name, format))
        assert facts_of(disk).format == format
        check_extents(disk)
        disk.close()
        assert read_file(tmp_path / name)[MIB : MIB + 5] == b"here\0"


def test_qcow2_is_told_too(tmp_path: Path) -> None:
    (tmp_path / "disk.raw").write_bytes(image())
    assert read_file(tmp_path / "disk.raw") == CONTENTS
    assert facts_of(open_disk(tmp_path / "disk.raw")).format == "qcow2"


@pytest.mark.parametrize("footer_bytes", [512, 511])
def test_a_fixed_vhd_is_told_by_its_end(tmp_path: Path, footer_bytes: int) -> None:
    path = make_vhd(tmp_path / "disk", [(0, b"x")], kind="fixed")
    os.truncate(path, 4 * MIB + footer_bytes)
    assert facts_of(open_disk(path)).format == "vhd"


def test_a_vhd_that_lost_its_end_is_still_a_vhd_and_not_raw(tmp_path: Path) -> None:
    path = make_vhd(tmp_path / "disk", [(0, b"x" * MIB)])
    os.truncate(path, path.stat().st_size - 1000)
    with pytest.raises(CorruptInputError, match="beyond the end"):
        open_disk(path)


def test_a_disk_of_windows_server_2012_r2(tmp_path: Path) -> None:
    path = tmp_path / "hyperv.vhd"
    path.write_bytes(bz2.decompress((DATA / "hyperv2012r2-dynamic.vhd.bz2").read_bytes()))
    disk = open_disk(path)
    assert disk.geometry.size_bytes == 136_365_211_648  # its geometry says 2,080,768 bytes less
    assert list(disk.extents()) == [Extent(0, 136_365_211_648, ExtentKind.UNMAPPED)]
    assert facts_of(disk).creator == "win 6.3"


def test_only_disk_files_have_facts() -> None:
    with pytest.raises(TypeError, match="MemoryDisk"):
        facts_of(MemoryDisk(b""))


@pytest.mark.parametrize(
    "beginning",
    [b"vhdxfile", b"vhdxfile" + bytes(100_000), b"QFI\xfb", b"QFI\xfb" + bytes(1000), b"conectix", b""],
)
def test_what_only_begins_like_a_disk_is_refused_and_closed(tmp_path: Path, beginning: bytes) -> None:
    path = tmp_path / "odd"
    path.write_bytes(beginning)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(StillframeError, match="odd"):
        open_disk(path)
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("name", ["missing", "."])
def test_what_cannot_be_opened_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError):
        open_disk(tmp_path / name)


def test_suffixes_tell_the_format_of_a_new_file() -> None:
    told = [
        format_of_name(Path(name)) for name in ("a.vhdx", "a.AVHDX", "a.vhd", "a.img", "a.raw", "a.qcow2")
    ]
    assert told == ["vhdx", "vhdx", "vhd", "raw", "raw", "qcow2"]
    with pytest.raises(UsageError, match="suffix") as caught:
        format_of_name(Path("disk"))
    assert "--format" in caught.value.hint
    assert {format_of_name(Path(f"a.{name}")) for name in FORMATS} == set(FORMATS)


@pytest.mark.parametrize(
    ("format", "options"),
    [("raw", {"kind": "fixed"}), ("raw", {"block_size_bytes": MIB}), ("qcow2", {"kind": "fixed"})],
)
def test_options_that_a_format_does_not_have_are_refused(
    tmp_path: Path, format: DiskFormat, options: dict[str, object]
) -> None:
    with pytest.raises(UsageError):
        create_disk(tmp_path / "new", Geometry(MIB), format=format, **options)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("format", ["vhdx", "vhd", "raw"])
def test_a_stamp_stays_until_the_file_is_written_to(tmp_path: Path, format: DiskFormat) -> None:
    path = make(tmp_path / "disk", format)
    before = still_stamp(path)
    read_file(path)
    check_unchanged(path, before)
    with path.open("r+b") as file:
        file.seek(MIB)
        file.write(b"x")
    os.utime(path, ns=(before.modified_ns + 1, before.modified_ns + 1))
    with pytest.raises(DiskChangedError, match="written to while it was read"):
        check_unchanged(path, before)


def test_a_replaced_file_is_another_one(tmp_path: Path) -> None:
    path = make(tmp_path / "disk", "raw")
    before = still_stamp(path)
    shutil.copy2(path, tmp_path / "copy")
    os.utime(tmp_path / "copy", ns=(before.modified_ns, before.modified_ns))
    os.replace(tmp_path / "copy", path)
    assert still_stamp(path) != before


def test_the_write_ids_of_a_vhdx_count_even_when_the_times_do_not_tell(tmp_path: Path) -> None:
    path = make(tmp_path / "disk", "vhdx")
    before = still_stamp(path)
    assert before.file_write_id is not None
    create_disk(tmp_path / "other", Geometry(8 * MIB), format="vhdx").finish()
    headers = (tmp_path / "other").read_bytes()[64 << 10 : 192 << 10]
    with path.open("r+b") as file:
        file.seek(64 << 10)
        file.write(headers)
    os.utime(path, ns=(before.modified_ns, before.modified_ns))
    after = still_stamp(path)
    assert (after.modified_ns, after.size_bytes) == (before.modified_ns, before.size_bytes)
    assert after != before


def test_a_stamp_of_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="missing"):
        still_stamp(tmp_path / "missing")
