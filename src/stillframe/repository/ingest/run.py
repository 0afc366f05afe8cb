"""One backup run: all disks of one recovery point go through it, and it ends with the point's commit."""

from __future__ import annotations

import os
import queue
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Self

from stillframe.disk.still import Extent, StillDisk
from stillframe.memory import keep_freed_memory
from stillframe.progress import NoProgress, Progress
from stillframe.repository.blobs import BlobType, Compressor
from stillframe.repository.config import compression_level
from stillframe.repository.errors import ConflictError
from stillframe.repository.ingest.pipeline import Pipeline
from stillframe.repository.ingest.plan import Batch, plan_changes, plan_scan
from stillframe.repository.ingest.stages import Stages, StoppedError
from stillframe.repository.ingest.statistics import Statistics
from stillframe.repository.ingest.store import BlobStore, Claims, Packer
from stillframe.repository.ingest.worker import Result, Worker
from stillframe.repository.nodes import NodeEntry, encode_node
from stillframe.repository.operations import drive
from stillframe.repository.packs import PackKind, PackMemory, SealedPack
from stillframe.repository.points import PointDisk, RecoveryPoint
from stillframe.repository.repository import Repository
from stillframe.repository.storage.base import StorageError
from stillframe.repository.tree import TreeBuilder, block_entry, update_tree

PACKS_PER_UPLOAD = 128
"""So many packs are made findable at once for a later run, should this one be killed."""

_PACKS_WAITING = 1
_MAX_WORKERS = (
    4  # each holds an open pack and its share of the buffers, 48 MiB: more would not fit in 400 MiB
)


class IngestRun:
    """Stores disks and documents, then commits the point. Use as a context manager, from one thread."""

    def __init__(self, repository: Repository, machine: str, progress: Progress | None = None) -> None:
        keep_freed_memory()
        self._repository = repository
        self._machine = machine
        self._progress = progress or NoProgress()
        self._draft = repository.draft()
        self._claims = Claims()
        self._compressor = Compressor(compression_level(repository.config.compression))
        self._memory = PackMemory()
        self._stages = Stages()
        self._packs: queue.Queue[SealedPack | None] = queue.Queue(_PACKS_WAITING)
        self._finished = False
        self.statistics = Statistics()
        self._node_counters = Statistics()
        self._nodes = self._packer(PackKind.METADATA, self._node_counters)
        self._node_store = BlobStore(
            self._draft, repository.knowledge, self._claims, self._nodes, self._node_counters
        )

    def __enter__(self) -> Self:
        self._stages.start("write", self._write_packs)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        failure: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stages.stop()
        if isinstance(failure, StoppedError):  # a thread failed while this one was building the tree
            failure = self._stages.failure
        if failure is not None and not isinstance(failure, ConflictError | StorageError):
            self._keep_for_later(failure)
        if failure is not None and kind is StoppedError:
            raise failure

    def _keep_for_later(self, failure: BaseException) -> None:
        """What is stored stays: the next run finds it and goes on from there."""
        try:
            self._repository.commit_upload(self._draft, self._machine)
        except (StorageError, ConflictError) as second:
            failure.add_note(f"What was stored so far could not be kept for the next run: {second}")

    def scan(self, disk: StillDisk, base: PointDisk | None = None) -> bytes | None:
        """Store a disk by reading all that may hold data; the root of its tree."""
        config = self._repository.config
        size_bytes = disk.geometry.size_bytes
        blocks = -(-size_bytes // config.block_bytes)
        batches = plan_scan(disk, config.block_bytes, self._base_entry(base) if base else None)
        builder = TreeBuilder(blocks, config.fan_out, self._store_node)
        following = 0
        for block, entry in self._results(disk, batches):
            builder.append_zeros(block - following)
            builder.append(entry)
            following = block + 1
        builder.append_zeros(blocks - following)
        return builder.finish()

    def update(self, disk: StillDisk, changed: Iterable[Extent], base: PointDisk) -> bytes | None:
        """Store only changed extents over the tree of an earlier point's disk; the new root.

        The disk may have grown since, not shrunk.
        """
        config = self._repository.config
        size_bytes = disk.geometry.size_bytes
        batches = plan_changes(changed, size_bytes, config.block_bytes, self._base_entry(base))
        return update_tree(
            base.root,
            base.block_count,
            -(-size_bytes // config.block_bytes),
            config.fan_out,
            self._results(disk, batches),
            self._repository.read_node,
            self._store_node,
        )

    def document(self, data: bytes) -> bytes:
        """Store a document of the point; its id."""
        blob_id = self._repository.knowledge.ids.id_of(BlobType.DOCUMENT, data)
        self._node_store.keep(BlobType.DOCUMENT, [(blob_id, data)])
        return blob_id

    def finish(self) -> None:
        """Store what is still open; the statistics are complete then, and only ``commit`` may follow."""
        if self._finished:
            return
        self._finished = True
        try:
            self._nodes.flush()
            self._stages.put(self._packs, None)
        except StoppedError:
            self._stages.join()
            self._stages.raise_failure()
        self._stages.join()
        self._stages.raise_failure()
        self.statistics.add(self._node_counters)

    def commit(self, point: RecoveryPoint, bases: Sequence[str]) -> RecoveryPoint:
        """Finish, and make the point durable; see ``Draft.commit_point``."""
        self.finish()
        return self._repository.commit_point(self._draft, point, bases)

    def _results(self, disk: StillDisk, batches: Iterable[Batch]) -> Iterator[Result]:
        statistics = Statistics(size_bytes=disk.geometry.size_bytes)
        pipeline = Pipeline(
            self._stages,
            disk,
            self._make_worker,
            statistics,
            self._progress,
            workers=min(os.cpu_count() or 1, _MAX_WORKERS),
        )
        yield from pipeline.run(batches)
        statistics.skipped_bytes = statistics.size_bytes - statistics.read_bytes
        self.statistics.add(statistics)

    def _make_worker(self, counters: Statistics) -> tuple[Worker, Callable[[], None]]:
        knowledge = self._repository.knowledge
        packer = self._packer(PackKind.DATA, counters)
        store = BlobStore(self._draft, knowledge, self._claims, packer, counters)
        return Worker(knowledge.ids, store, counters), packer.flush

    def _packer(self, kind: PackKind, counters: Statistics) -> Packer:
        knowledge = self._repository.knowledge
        return Packer(kind, knowledge, self._compressor, self._ship, counters, self._memory)

    def _ship(self, pack: SealedPack) -> None:
        self._stages.put(self._packs, pack)

    def _write_packs(self) -> None:
        counters = Statistics()
        written = 0
        while (pack := self._stages.get(self._packs)) is not None:
            with counters.timed("write_s"):
                drive(self._draft.put_pack(pack), self._repository.storage)
            self._memory.give_back(pack)
            written += 1
            if written % PACKS_PER_UPLOAD == 0:
                self._repository.commit_upload(self._draft, self._machine)
                self._repository.refresh()
                self._claims.clear()
        self.statistics.add(counters)

    def _base_entry(self, base: PointDisk) -> Callable[[int], NodeEntry]:
        fan_out, read = self._repository.config.fan_out, self._repository.read_node
        blocks = base.block_count

        def entry(block: int) -> NodeEntry:
            return block_entry(base.root, block, blocks, fan_out, read) if block < blocks else None

        return entry

    def _store_node(self, height: int, entries: list[NodeEntry]) -> bytes:
        data = encode_node(height, entries)
        blob_id = self._repository.knowledge.ids.id_of(BlobType.NODE, data)
        self._node_store.keep(BlobType.NODE, [(blob_id, data)])
        return blob_id
