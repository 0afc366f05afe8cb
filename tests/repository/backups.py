"""Disks, recovery points and whole lives of machines for tests, with plain bytes as the model."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from random import Random

from stillframe.disk.ranges import Untracked, check_range
from stillframe.disk.still import Extent, ExtentKind, Geometry, joined
from stillframe.repository.config import CONFIG_NAME, Config
from stillframe.repository.ingest import IngestRun, Statistics
from stillframe.repository.keys import Bundle
from stillframe.repository.knowledge import Knowledge
from stillframe.repository.points import Consistency, PointDisk, RecoveryPoint
from stillframe.repository.repository import Repository
from stillframe.repository.still import StoredDisk
from stillframe.repository.storage.base import Storage
from tests.repository.make import BLOCK_BYTES, BUNDLE, MOMENT, REPOSITORY_ID, noise
from tests.repository.storage.memory import MemoryStorage

PAGE_BYTES = 4096


class BytesDisk(Untracked):
    """A still disk over bytes; tells its pages of zeros. ``hook`` is called with each read's offset."""

    def __init__(
        self, data: bytes, disk_id: str = "disk", hook: Callable[[int], None] = lambda _: None
    ) -> None:
        self.data = bytes(data)
        self.reads: list[tuple[int, int]] = []
        self._disk_id = disk_id
        self._hook = hook

    @property
    def disk_id(self) -> str:
        return self._disk_id

    @property
    def geometry(self) -> Geometry:
        return Geometry(len(self.data))

    def extents(self) -> Iterator[Extent]:
        return joined(self._pages())

    def _pages(self) -> Iterator[Extent]:
        for start in range(0, len(self.data), PAGE_BYTES):
            page = self.data[start : start + PAGE_BYTES]
            yield Extent(start, len(page), ExtentKind.DATA if any(page) else ExtentKind.ZERO)

    def read_into(self, offset_bytes: int, buffer: memoryview) -> None:
        check_range(self.geometry, offset_bytes, len(buffer))
        self._hook(offset_bytes)
        self.reads.append((offset_bytes, len(buffer)))
        buffer[:] = self.data[offset_bytes : offset_bytes + len(buffer)]

    def close(self) -> None:
        """Nothing is open."""


def new_repository(
    storage: Storage | None = None,
    *,
    block_bytes: int = BLOCK_BYTES,
    fan_out: int = 4,
    pack_bytes: int = 256 << 10,
    compression: str = "zstd:1",
) -> Repository:
    """A repository without key slots, with parameters that make small disks interesting."""
    place = storage if storage is not None else MemoryStorage()
    config = Config(REPOSITORY_ID, "2026-11-23T14:00:00.000Z", block_bytes, fan_out, pack_bytes, compression)
    assert place.put_if_absent(CONFIG_NAME, config.to_bytes(BUNDLE))
    return Repository(place, Knowledge(config, BUNDLE))


def opened(repository: Repository, bundle: Bundle = BUNDLE) -> Repository:
    """What another process sees that opens the repository now."""
    other = Repository(repository.storage, Knowledge(repository.config, bundle))
    other.read_log()
    return other


def new_point(
    machine: str, disks: Iterable[PointDisk], documents: Mapping[str, bytes] | None = None
) -> RecoveryPoint:
    return RecoveryPoint(
        os.urandom(8).hex(),
        machine,
        MOMENT,
        Consistency.CRASH,
        "made by a test",
        "full",
        "test",
        None,
        tuple(disks),
        documents=documents or {},
    )


def back_up(
    repository: Repository,
    contents: Mapping[str, bytes] | bytes,
    *,
    machine: str = "vm",
    parent: RecoveryPoint | None = None,
    changed: Mapping[str, Sequence[Extent]] | None = None,
    documents: Mapping[str, bytes] | None = None,
    statistics: Statistics | None = None,
) -> RecoveryPoint:
    """A recovery point of disks in memory: by extents where they are given, by scan otherwise."""
    disks = {"disk": contents} if isinstance(contents, bytes) else contents
    with IngestRun(repository, machine) as run:
        taken = [
            _store(run, repository, name, BytesDisk(data, name), parent, (changed or {}).get(name))
            for name, data in disks.items()
        ]
        kept = {name: run.document(data) for name, data in (documents or {}).items()}
        point = run.commit(new_point(machine, taken, kept), [parent.point_id] if parent else [])
    if statistics is not None:
        statistics.add(run.statistics)
    return point


def _store(
    run: IngestRun,
    repository: Repository,
    name: str,
    disk: BytesDisk,
    parent: RecoveryPoint | None,
    changed: Sequence[Extent] | None,
) -> PointDisk:
    base = parent.disk(name) if parent else None
    if changed is not None:
        assert base is not None
        root = run.update(disk, changed, base)
    else:
        root = run.scan(disk, base)
    return PointDisk(name, disk.disk_id, disk.geometry, repository.config.block_bytes, root)


def restored(repository: Repository, disk: PointDisk) -> bytes:
    """All bytes of a stored disk."""
    buffer = bytearray(disk.geometry.size_bytes)
    StoredDisk(repository, disk).read_into(0, memoryview(buffer))
    return bytes(buffer)


def contents_of(repository: Repository, point: RecoveryPoint) -> dict[str, bytes]:
    """All disks of a point, by name."""
    return {disk.name: restored(repository, disk) for disk in point.disks}


def random_disk(random: Random, size_bytes: int, block_bytes: int) -> bytes:
    """Sparse, with repetitions, and with blocks that compress and blocks that do not."""
    parts = []
    for start in range(0, size_bytes, block_bytes):
        length = min(block_bytes, size_bytes - start)
        kind = random.randrange(4)
        seed = random.randrange(3) if kind == 1 else random.random()
        parts.append(bytes(length) if kind == 0 else noise(length, seed))
        if kind == 3:
            parts[-1] = parts[-1][: length // 4] + b"a" * (length - length // 4)
    return b"".join(parts)


def overwrite(data: bytes, extents: Iterable[Extent], random: Random, zeros: float = 0.2) -> bytes:
    """New contents in some ranges; some of them zeros."""
    changed = bytearray(data)
    for extent in extents:
        new = bytes(extent.length_bytes)
        if random.random() >= zeros:
            new = noise(extent.length_bytes, random.random())
        changed[extent.offset_bytes : extent.end_bytes] = new
    return bytes(changed)


def random_extents(random: Random, size_bytes: int, count: int, longest_bytes: int) -> list[Extent]:
    """Ascending and disjoint, at odd places."""
    extents: list[Extent] = []
    position = 0
    for start in sorted(random.randrange(size_bytes) for _ in range(count)):
        start = max(start, position)
        length = min(random.randint(1, longest_bytes), size_bytes - start)
        if length > 0:
            extents.append(Extent(start, length))
            position = start + length
    return extents


def pack_names(names: Iterable[str], folder: str = "") -> list[str]:
    """The packs among object names, of one folder or both."""
    return sorted(name for name in names if name.startswith((folder,) if folder else ("data/", "meta/")))
