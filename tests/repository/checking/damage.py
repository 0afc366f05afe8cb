"""A repository with known contents, and every way to damage it."""

from __future__ import annotations

from dataclasses import dataclass

from stillframe.repository.points import RecoveryPoint
from stillframe.repository.repository import Repository
from stillframe.repository.still import StoredDisk
from tests.repository.backups import back_up, new_repository, opened
from tests.repository.make import BLOCK_BYTES, noise
from tests.repository.storage.memory import MemoryStorage

DATA = noise(12 * BLOCK_BYTES)


@dataclass
class Store:
    """Three points: two of one machine that share most blocks, and one that shares none."""

    storage: MemoryStorage
    repository: Repository
    first: RecoveryPoint
    second: RecoveryPoint
    other: RecoveryPoint
    contents: dict[str, bytes]

    def fresh(self) -> Repository:
        return opened(self.repository)

    def objects(self, prefix: str) -> list[str]:
        return sorted(name for name in self.storage.objects if name.startswith(prefix))

    def pack_of_block(self, point: RecoveryPoint, block: int) -> str:
        """The pack of a whole block."""
        fresh = self.fresh()
        entry = StoredDisk(fresh, point.disks[0]).entry(block)
        assert isinstance(entry, bytes)
        location = fresh.index.find_one(entry)
        assert location is not None
        return location.object_name

    def flip(self, name: str, offset: int) -> None:
        data = bytearray(self.storage.objects[name])
        data[offset] ^= 0x10
        self.storage.objects[name] = bytes(data)

    def flip_block(self, point: RecoveryPoint, block: int) -> str:
        """Damage the blob of a whole block in its pack; the pack's name."""
        fresh = self.fresh()
        entry = StoredDisk(fresh, point.disks[0]).entry(block)
        assert isinstance(entry, bytes)
        location = fresh.index.find_one(entry)
        assert location is not None
        self.flip(location.object_name, location.row.offset_bytes + 100)
        return location.object_name


def new_store(storage: MemoryStorage | None = None) -> Store:
    place = storage or MemoryStorage()
    repository = new_repository(place, pack_bytes=4 * BLOCK_BYTES)
    first = back_up(repository, DATA, machine="web")
    changed = DATA[: 3 * BLOCK_BYTES] + noise(BLOCK_BYTES, "changed") + DATA[4 * BLOCK_BYTES :]
    second = back_up(repository, changed, machine="web", parent=first)
    lone = noise(5 * BLOCK_BYTES + 700, "lone")
    other = back_up(repository, lone, machine="db", documents={"configuration": b"<xml/>"})
    contents = {first.point_id: DATA, second.point_id: changed, other.point_id: lone}
    return Store(place, repository, first, second, other, contents)
