"""Backing up images at rest: names, reasons, images that are not at rest, and points that go meanwhile."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from random import Random
from typing import Any

import pytest

from stillframe.disk.convert import finishing
from stillframe.disk.create import DiskFormat, create_disk
from stillframe.disk.open import open_disk
from stillframe.disk.raw import RawDisk
from stillframe.disk.stamp import DiskChangedError
from stillframe.disk.still import Extent, Geometry
from stillframe.disk.vhdx import VhdxDisk, create_vhdx
from stillframe.errors import UsageError
from stillframe.protection import image
from stillframe.protection.image import BackupReport, ConsistencyError, ImageSpec, backup_images
from stillframe.protection.image_source import Base, open_image
from stillframe.repository.collection import collect
from stillframe.repository.errors import ConflictError
from stillframe.repository.ingest import IngestRun
from stillframe.repository.points import Consistency, RecoveryPoint
from stillframe.repository.repository import Repository
from tests.repository.backups import contents_of, new_repository, opened, overwrite, random_extents
from tests.repository.make import BLOCK_BYTES, noise
from tests.repository.storage.memory import Fault, MemoryStorage, every

DATA = noise(8 * BLOCK_BYTES)


def raw(folder: Path, data: bytes = DATA, name: str = "disk.raw") -> ImageSpec:
    """The same file again where it exists already."""
    path = folder / name
    path.write_bytes(data)
    return ImageSpec(path, name)


def vhdx(folder: Path, data: bytes, name: str = "disk.vhdx", format: DiskFormat = "vhdx") -> ImageSpec:
    path = folder / name
    path.unlink(missing_ok=True)
    target = create_disk(path, Geometry(len(data)), format=format)
    target.write(0, data)
    target.finish()
    return ImageSpec(path, name)


def backed_up(
    repository: Repository,
    *specs: ImageSpec,
    changed: Mapping[str, Sequence[Extent]] | None = None,
    require: Consistency | None = None,
) -> BackupReport:
    return backup_images(repository, specs, machine="vm", changed=changed, require=require)


def reasons(report: BackupReport) -> list[str]:
    return [disk.reason for disk in report.disks]


def test_several_disks_one_point(tmp_path: Path) -> None:
    repository = new_repository()
    first, second = raw(tmp_path, name="a.raw"), raw(tmp_path, noise(1000 * 512, 2), name="b.raw")
    report = backed_up(repository, first, second)
    fresh = opened(repository)
    assert fresh.points() == [report.point]
    assert contents_of(fresh, report.point) == {"a.raw": DATA, "b.raw": noise(1000 * 512, 2)}
    assert report.point.kind == "full"
    assert report.point.consistency is Consistency.CRASH
    assert report.attempts == 1
    assert report.to_json()["statistics"]["read_bytes"] == len(DATA) + 512_000
    assert report.point.disks[0].source == str(tmp_path / "a.raw")


def test_a_raw_disk_that_ends_within_a_sector_is_filled_up(tmp_path: Path) -> None:
    repository = new_repository()
    report = backed_up(repository, raw(tmp_path, noise(1000)))
    assert contents_of(repository, report.point) == {"disk.raw": noise(1000) + bytes(24)}


def test_the_second_run_is_incremental_and_says_how(tmp_path: Path) -> None:
    repository = new_repository()
    backed_up(repository, raw(tmp_path))
    new = noise(100, "new") + DATA[100:]
    by_scan = backed_up(repository, raw(tmp_path, new))
    assert by_scan.point.kind == "incremental"
    assert reasons(by_scan) == ["no changed extents given; every block compared"]
    assert by_scan.statistics.unchanged_bytes == 7 * BLOCK_BYTES
    newer = new[:-10] + b"0123456789"
    changed = {"disk.raw": [Extent(len(new) - 10, 10)]}
    by_extents = backed_up(repository, raw(tmp_path, newer), changed=changed)
    assert reasons(by_extents) == ["changed extents were given"]
    assert by_extents.statistics.read_bytes == 4096
    assert by_extents.point.parent == by_scan.point.point_id
    for point, data in zip(opened(repository).points(), (DATA, new, newer), strict=True):
        assert contents_of(repository, point) == {"disk.raw": data}


def test_a_life_of_changes_by_extents(tmp_path: Path) -> None:
    repository = new_repository()
    random = Random(3)
    data, history = DATA, []
    for _ in range(12):
        extents = random_extents(random, len(data), 6, 30_000) if history else []
        data = overwrite(data, extents, random)
        changed = {"disk.raw": extents} if history else None
        history.append((backed_up(repository, raw(tmp_path, data), changed=changed).point, data))
    for point, then in history:
        assert contents_of(repository, point) == {"disk.raw": then}


def test_names_that_clash_are_refused_before_anything_is_read(tmp_path: Path) -> None:
    repository = new_repository()
    spec = raw(tmp_path)
    with pytest.raises(UsageError, match="two disks would be called"):
        backed_up(repository, spec, ImageSpec(tmp_path / "other.raw", "disk.raw"))
    with pytest.raises(UsageError, match="no image"):
        backed_up(repository)
    with pytest.raises(UsageError, match="none of the images"):
        backed_up(repository, spec, changed={"disk.vhdx": []})
    assert opened(repository).points() == []


def test_an_image_that_is_not_there(tmp_path: Path) -> None:
    repository = new_repository()
    with pytest.raises(UsageError, match=r"gone\.raw"):
        backed_up(repository, raw(tmp_path), ImageSpec(tmp_path / "gone.raw", "gone.raw"))
    assert opened(repository).points() == []


@pytest.mark.parametrize("level", [Consistency.FILE_SYSTEM, Consistency.APPLICATION])
def test_more_consistency_than_an_image_can_prove_is_refused(tmp_path: Path, level: Consistency) -> None:
    repository = new_repository()
    with pytest.raises(ConsistencyError, match="crash-consistent at best"):
        backed_up(repository, raw(tmp_path), require=level)
    assert opened(repository).points() == []


def test_first_extents_of_an_unknown_disk_are_not_enough(tmp_path: Path) -> None:
    repository = new_repository()
    report = backed_up(repository, raw(tmp_path), changed={"disk.raw": [Extent(0, 512)]})
    assert reasons(report) == ["no earlier point of this disk"]
    assert contents_of(repository, report.point) == {"disk.raw": DATA}
    added = raw(tmp_path, noise(5000 * 512, 5), name="added.raw")
    changed: dict[str, list[Extent]] = {"disk.raw": [], "added.raw": []}
    report = backed_up(repository, raw(tmp_path), added, changed=changed)
    assert reasons(report) == ["changed extents were given", "no earlier point of this disk"]
    assert contents_of(repository, report.point)["added.raw"] == noise(5000 * 512, 5)
    assert report.point.kind == "full"


def test_another_disk_under_the_same_name_is_compared_whole(tmp_path: Path) -> None:
    repository = new_repository()
    backed_up(repository, vhdx(tmp_path, DATA))
    other = noise(len(DATA), "another disk")
    report = backed_up(repository, vhdx(tmp_path, other), changed={"disk.vhdx": []})
    assert reasons(report) == ["another disk of the same name; every block compared"]
    assert contents_of(repository, report.point) == {"disk.vhdx": other}


@pytest.mark.parametrize("size_bytes", [len(DATA) + 512, len(DATA) * 3, len(DATA) - 512, 512])
def test_another_size_is_compared_whole_and_says_so(tmp_path: Path, size_bytes: int) -> None:
    repository = new_repository()
    backed_up(repository, raw(tmp_path))
    data = (DATA + noise(len(DATA) * 2, "more"))[:size_bytes]
    report = backed_up(repository, raw(tmp_path, data), changed={"disk.raw": []})
    assert reasons(report) == [f"size changed from {len(DATA)} to {size_bytes} bytes; every block compared"]
    assert contents_of(repository, report.point) == {"disk.raw": data}


def test_disks_that_come_and_go_and_change_places(tmp_path: Path) -> None:
    repository = new_repository()
    a, b = raw(tmp_path, noise(9 * 512, "a"), "a.raw"), raw(tmp_path, noise(700 * 512, "b"), "b.raw")
    for specs in ((a, b), (b,), (b, a), (a,), (a, b)):
        report = backed_up(repository, *specs)
        wanted = {spec.name: spec.path.read_bytes() for spec in specs}
        assert contents_of(repository, report.point) == wanted


def written_during_the_scan(monkeypatch: pytest.MonkeyPatch, write: Callable[[], None]) -> None:
    """A thread writes once the first block was read, and the reader waits for that."""
    original = RawDisk.read_into
    done = threading.Event()

    def read_into(self: RawDisk, offset_bytes: int, buffer: memoryview) -> None:
        original(self, offset_bytes, buffer)
        if not done.is_set():
            writer = threading.Thread(target=write)
            writer.start()
            writer.join()
            done.set()

    monkeypatch.setattr(RawDisk, "read_into", read_into)


def test_an_image_that_is_written_meanwhile_gives_an_inconsistent_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = new_repository()
    spec = raw(tmp_path)
    written_during_the_scan(monkeypatch, lambda: _poke(spec.path))
    report = backed_up(repository, spec)
    assert report.point.consistency is Consistency.INCONSISTENT
    assert str(spec.path) in report.point.consistency_reason
    monkeypatch.undo()
    # What changed since such a point nobody can say.
    new = noise(len(DATA), "new")
    report = backed_up(repository, raw(tmp_path, new), changed={"disk.raw": [Extent(0, 512)]})
    assert reasons(report) == ["the newest point is inconsistent; every block compared"]
    assert contents_of(repository, report.point) == {"disk.raw": new}


def test_an_image_that_is_written_meanwhile_is_refused_where_more_is_required(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = new_repository()
    spec = raw(tmp_path)
    written_during_the_scan(monkeypatch, lambda: _poke(spec.path))
    with pytest.raises(DiskChangedError, match="written to while it was read"):
        backed_up(repository, spec, require=Consistency.CRASH)
    monkeypatch.undo()
    assert opened(repository).points() == []
    again = backed_up(repository, spec, require=Consistency.CRASH)
    assert again.statistics.found_bytes > 0
    assert contents_of(repository, again.point) == {"disk.raw": spec.path.read_bytes()}


def test_inconsistent_may_be_required_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = new_repository()
    spec = raw(tmp_path)
    written_during_the_scan(monkeypatch, lambda: _poke(spec.path))
    report = backed_up(repository, spec, require=Consistency.INCONSISTENT)
    assert report.point.consistency is Consistency.INCONSISTENT


def test_an_image_that_another_took_the_place_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = new_repository()
    spec = raw(tmp_path)
    times = spec.path.stat()

    def replace() -> None:
        other = tmp_path / "other"
        other.write_bytes(noise(len(DATA), "other"))
        os.utime(other, ns=(times.st_atime_ns, times.st_mtime_ns))
        other.rename(spec.path)

    written_during_the_scan(monkeypatch, replace)
    assert backed_up(repository, spec).point.consistency is Consistency.INCONSISTENT


def test_a_vhdx_whose_file_write_guid_changes_with_the_old_time_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Times can be set back, and NFS rounds them: the GUIDs in the header tell as well."""
    repository = new_repository()
    spec = vhdx(tmp_path, DATA)
    other = vhdx(tmp_path, DATA, "other.vhdx")
    original = IngestRun.scan

    def scan(self: IngestRun, *args: Any) -> bytes | None:
        root = original(self, *args)
        times = spec.path.stat()
        spec.path.write_bytes(other.path.read_bytes()[: times.st_size])
        os.utime(spec.path, ns=(times.st_atime_ns, times.st_mtime_ns))
        return root

    monkeypatch.setattr(IngestRun, "scan", scan)
    assert backed_up(repository, spec).point.consistency is Consistency.INCONSISTENT


def _poke(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(len(DATA) - 5)
        file.write(b"poked")


def before_the_commit(monkeypatch: pytest.MonkeyPatch, act: Callable[[], None], times: int = 1) -> None:
    """Do something when all is read and only the commit is left."""
    original = IngestRun.commit
    left = iter(range(times))

    def commit(self: IngestRun, *args: Any) -> RecoveryPoint:
        if next(left, None) is not None:
            act()
        return original(self, *args)

    monkeypatch.setattr(IngestRun, "commit", commit)


def forget_all_and_collect(repository: Repository) -> None:
    other = opened(repository)
    other.forget([point.point_id for point in other.points()], "test")
    for _ in range(3):
        collect(opened(repository))


def test_a_parent_that_goes_before_the_commit_is_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = new_repository()
    backed_up(repository, raw(tmp_path))
    before_the_commit(monkeypatch, lambda: forget_all_and_collect(repository))
    new = b"x" * 512 + DATA[512:]
    report = backed_up(repository, raw(tmp_path, new), changed={"disk.raw": [Extent(0, 512)]})
    assert report.attempts == 2
    assert reasons(report) == ["no earlier point of this disk"]
    fresh = opened(repository)
    assert fresh.points() == [report.point]
    assert contents_of(fresh, report.point) == {"disk.raw": new}


def test_extents_are_not_laid_over_an_older_point_than_they_were_counted_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newest point goes during the run: the extents say nothing of what changed before it."""
    repository = new_repository()
    backed_up(repository, raw(tmp_path))
    second = noise(BLOCK_BYTES, "second") + DATA[BLOCK_BYTES:]
    newest = backed_up(repository, raw(tmp_path, second)).point
    third = second[:-512] + b"3" * 512
    before_the_commit(monkeypatch, lambda: opened(repository).forget([newest.point_id], "test"))
    report = backed_up(repository, raw(tmp_path, third), changed={"disk.raw": [Extent(len(DATA) - 512, 512)]})
    assert report.attempts == 2
    assert contents_of(opened(repository), report.point) == {"disk.raw": third}
    assert reasons(report) == ["the newest point was forgotten during the run; every block compared"]


def test_a_third_conflict_is_no_accident(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = new_repository()
    backed_up(repository, raw(tmp_path))

    def forget_and_replace() -> None:
        other = opened(repository)
        other.forget([point.point_id for point in other.points()], "test")
        with monkeypatch.context() as patch:
            patch.setattr(image, "ATTEMPTS", 1)
            backup_images(other, [raw(tmp_path)], machine="vm")

    original = IngestRun.commit
    inside: list[int] = []

    def commit(self: IngestRun, *args: Any) -> RecoveryPoint:
        if not inside:
            inside.append(1)
            forget_and_replace()
            inside.clear()
        return original(self, *args)

    monkeypatch.setattr(IngestRun, "commit", commit)
    with pytest.raises(ConflictError):
        backed_up(repository, raw(tmp_path))
    assert len(opened(repository).points()) == 1


def test_what_this_run_stored_was_collected_before_its_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that slept for a week: its packs were suspects, then garbage. It stores them again."""
    repository = new_repository()
    before_the_commit(monkeypatch, lambda: forget_all_and_collect(repository))
    report = backed_up(repository, raw(tmp_path))
    assert report.attempts == 2
    assert contents_of(opened(repository), report.point) == {"disk.raw": DATA}


def test_blobs_counted_on_that_were_collected_are_stored_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Deduplicated against another machine, whose point goes before the commit."""
    repository = new_repository()
    backup_images(repository, [raw(tmp_path)], machine="other")
    before_the_commit(monkeypatch, lambda: forget_all_and_collect(repository))
    report = backed_up(repository, raw(tmp_path))
    assert report.attempts == 2
    assert report.statistics.new_bytes == len(DATA)
    assert contents_of(opened(repository), report.point) == {"disk.raw": DATA}


def test_other_machines_points_are_no_parents_but_share_their_blocks(tmp_path: Path) -> None:
    repository = new_repository()
    backup_images(repository, [raw(tmp_path)], machine="other")
    report = backed_up(repository, raw(tmp_path))
    assert report.point.parent is None
    assert report.point.kind == "full"
    assert report.statistics.found_bytes == len(DATA)
    assert report.statistics.new_bytes == 0


def test_a_point_that_is_committed_counts_whatever_consolidation_meets(tmp_path: Path) -> None:
    storage = MemoryStorage()
    repository = new_repository(storage)
    for number in range(70):
        report = backed_up(repository, raw(tmp_path, noise(600, number)))
        if number == 62:
            storage.plan = every("delete", Fault.FAILED)
        if number == 66:
            storage.plan = every("put", Fault.FAILED, "index/")
            break
    segments = repository.state.segments
    assert len(segments) < 20
    before = len(repository.points())
    storage.plan = lambda _: None
    assert opened(repository).points()[-1] == report.point
    assert before == 67


def test_zero_disks_are_points_too(tmp_path: Path) -> None:
    repository = new_repository()
    report = backed_up(repository, raw(tmp_path, bytes(100 * 512)))
    assert report.point.disks[0].root is None
    assert contents_of(repository, report.point) == {"disk.raw": bytes(51_200)}


def test_a_differencing_disk_is_read_through_its_parents(tmp_path: Path) -> None:
    parent = vhdx(tmp_path, DATA, "parent.vhdx")
    child = tmp_path / "child.avhdx"
    with closing(open_disk(parent.path)) as opened_parent:
        assert isinstance(opened_parent, VhdxDisk)
        target = create_vhdx(child, Geometry(len(DATA)), kind="differencing", parent=opened_parent)
        target.write(0, b"c" * 512)
        target.finish()
    repository = new_repository()
    report = backed_up(repository, ImageSpec(child, "disk"))
    assert contents_of(repository, report.point) == {"disk": b"c" * 512 + DATA[512:]}
    changed = {"disk": [Extent(0, 512)]}
    again = backed_up(repository, ImageSpec(parent.path, "disk"), changed=changed)
    assert contents_of(repository, again.point) == {"disk": DATA}


def test_a_parent_that_is_written_to_makes_the_point_inconsistent(tmp_path: Path) -> None:
    """What is read of a child is its parent's too."""
    parent, child = tmp_path / "parent.vhdx", tmp_path / "child.vhdx"
    with finishing(create_disk(parent, Geometry(8 << 20), format="vhdx", block_size_bytes=1 << 20)) as target:
        target.write(0, b"parent" * 1000)
    with closing(open_disk(parent)) as opened:
        assert isinstance(opened, VhdxDisk)
        with finishing(create_vhdx(child, opened.geometry, kind="differencing", parent=opened)) as target:
            target.write(1 << 20, bytes([7]) * 4096)
    with ExitStack() as stack:
        source = open_image(stack, ImageSpec(child, "c"), Base(None, None), None, ())
        assert source.written_to() == []
        os.utime(parent, ns=(1, 1))
        assert source.written_to() == [parent]
