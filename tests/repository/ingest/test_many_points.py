"""A point a minute: the store lists, checks and restores as one with the same data in one run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest

from stillframe.disk.still import Extent
from stillframe.protection.image import ImageSpec, backup_images
from stillframe.repository.checking.check import check
from stillframe.repository.collection import collect
from stillframe.repository.collection.consolidate import MANY_SEGMENTS
from stillframe.repository.repository import Repository
from stillframe.repository.storage.base import Storage
from stillframe.repository.storage.local import LocalStorage
from stillframe.repository.storage.open import open_storage
from tests.repository.backups import contents_of, new_repository, opened
from tests.repository.make import BLOCK_BYTES, noise
from tests.repository.storage.memory import MemoryStorage

_KEPT_POINTS = 5


@dataclass
class _Machine:
    """A disk image that changes a little every minute, and what it held at some of them."""

    spec: ImageSpec
    random: Random
    moments: dict[str, bytes]

    @property
    def name(self) -> str:
        return self.spec.path.stem

    def change(self) -> list[Extent]:
        offset = self.random.randrange(0, self.spec.path.stat().st_size - 4096, 512)
        with self.spec.path.open("r+b") as file:
            file.seek(offset)
            file.write(noise(3000, self.random.random()))
        return [Extent(offset, 3000)]


def live(storage: Storage, folder: Path, machines: int, points: int, *, again_each: bool) -> Repository:
    """So many machines take turns; each run opens the repository anew, as the command line does."""
    repository = new_repository(storage, fan_out=64, pack_bytes=4 << 20)
    fleet = [_new_machine(folder, number) for number in range(machines)]
    for minute in range(points):
        for machine in fleet:
            changed = {"disk": machine.change()} if minute else None
            process = opened(repository) if again_each else repository
            report = backup_images(process, [machine.spec], machine=machine.name, changed=changed)
            assert report.statistics.read_bytes <= 2 * BLOCK_BYTES or not minute
            if minute % max(1, points // _KEPT_POINTS) == 0 or minute == points - 1:
                machine.moments[report.point.point_id] = machine.spec.path.read_bytes()
    restores_all(opened(repository), fleet)
    small = len(opened(repository).state.segments)
    assert small <= MANY_SEGMENTS + 1
    _compare_with_one_run(opened(repository), fleet, folder)
    restores_all(opened(repository), fleet)
    assert check(opened(repository), read_data=True).is_good
    return repository


def _new_machine(folder: Path, number: int) -> _Machine:
    path = folder / f"vm{number}.raw"
    path.write_bytes(noise(6 * BLOCK_BYTES, number) + bytes(6 * BLOCK_BYTES))
    return _Machine(ImageSpec(path, "disk"), Random(number), {})


def restores_all(repository: Repository, fleet: list[_Machine]) -> None:
    points = {point.point_id: point for point in repository.points()}
    for machine in fleet:
        for point_id, data in machine.moments.items():
            assert contents_of(repository, points[point_id]) == {"disk": data}


def _compare_with_one_run(repository: Repository, fleet: list[_Machine], folder: Path) -> None:
    """After a collection there are about as many packs and segments as their bytes need."""
    for _ in range(2):
        collect(repository)
    repository.refresh()
    packs = repository.index.packs
    size_bytes = sum(size for _, size in packs.values())
    assert len(packs) <= size_bytes // (3 << 20) + 4
    assert len(repository.state.segments) <= 2
    alone = new_repository(fan_out=64, pack_bytes=4 << 20)
    for machine in fleet:
        backup_images(alone, [machine.spec], machine=machine.name)
    collect(alone)
    alone.refresh()
    newest = {point.machine: point for point in repository.points()}
    for point in alone.points():
        assert contents_of(alone, point) == contents_of(repository, newest[point.machine])
    assert len(packs) <= len(alone.index.packs) + size_bytes // (3 << 20) + 2


def test_three_machines_an_hour(tmp_path: Path) -> None:
    storage = MemoryStorage()
    repository = live(storage, tmp_path, 3, 60, again_each=True)
    assert len(opened(repository).points()) == 180
    folders = {name.partition("/")[0] for name in storage.objects}
    assert folders == {"config", "log", "data", "meta", "index"}


@pytest.mark.soak
def test_twenty_machines_a_day(tmp_path: Path) -> None:
    """On real files: 57 600 packs become some 90. Takes a quarter of an hour or more."""
    images = tmp_path / "images"
    images.mkdir()
    storage = open_storage(str(tmp_path / "repository"), create=True)
    assert isinstance(storage, LocalStorage)
    repository = live(storage, images, 20, 1440, again_each=False)
    assert len(opened(repository).points()) == 28_800
