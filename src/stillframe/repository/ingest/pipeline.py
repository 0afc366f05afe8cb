"""Read ahead on one thread, hash and pack on several, give the results back in order.

Memory is bounded by the buffers: a batch is read into one of a fixed set, and the set comes back as workers
finish.
"""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterable, Iterator

from stillframe.disk.still import StillDisk
from stillframe.progress import Progress
from stillframe.repository.ingest.plan import Batch
from stillframe.repository.ingest.stages import Stages, StoppedError
from stillframe.repository.ingest.statistics import Statistics
from stillframe.repository.ingest.worker import Result, Worker

_BUFFERS_PER_WORKER = 4

_Read = tuple[int, Batch, bytearray] | None
_Done = tuple[int, list[Result]] | None


class Pipeline:
    """Runs batches of one disk through the workers."""

    def __init__(
        self,
        stages: Stages,
        disk: StillDisk,
        make_worker: Callable[[Statistics], tuple[Worker, Callable[[], None]]],
        statistics: Statistics,
        progress: Progress,
        *,
        workers: int,
    ) -> None:
        self._stages = stages
        self._disk = disk
        self._make_worker = make_worker
        self._statistics = statistics
        self._progress = progress
        self._workers = workers
        self._read: queue.Queue[_Read] = queue.Queue()
        self._done: queue.Queue[_Done] = queue.Queue()
        self._free: queue.Queue[bytearray] = queue.Queue()
        for _ in range(workers * _BUFFERS_PER_WORKER):
            self._free.put(bytearray())  # grows to the largest batch it meets: small runs stay small

    def run(self, batches: Iterable[Batch]) -> Iterator[Result]:
        """The entries of all blocks of the batches, in their order."""
        self._stages.start("read", lambda: self._read_ahead(batches))
        for number in range(self._workers):
            self._stages.start(f"work-{number}", self._work)
        try:
            yield from self._in_order()
        except StoppedError:
            self._stages.join()
            self._stages.raise_failure()
            raise

    def _read_ahead(self, batches: Iterable[Batch]) -> None:
        counters = Statistics()
        for number, batch in enumerate(batches):
            buffer = self._stages.get(self._free)
            if len(buffer) < batch.read_bytes:
                buffer = bytearray(batch.read_bytes)
            with counters.timed("read_s"):
                counters.read_bytes += self._read_batch(batch, memoryview(buffer))
            self._stages.put(self._read, (number, batch, buffer))
        self._statistics.add(counters)  # before the workers end, as the run ends with them
        for _ in range(self._workers):
            self._stages.put(self._read, None)

    def _read_batch(self, batch: Batch, buffer: memoryview) -> int:
        first = batch.tasks[0]
        if first.pieces is None:
            length_bytes = batch.read_bytes
            self._disk.read_into(first.offset_bytes, buffer[:length_bytes])
            return length_bytes
        position = 0
        for task in batch.tasks:
            for start, end in task.pieces or ():
                self._disk.read_into(task.offset_bytes + start, buffer[position : position + end - start])
                position += end - start
        return position

    def _work(self) -> None:
        counters = Statistics()
        worker, flush = self._make_worker(counters)
        while (item := self._stages.get(self._read)) is not None:
            number, batch, buffer = item
            results = worker.process(batch, memoryview(buffer))
            self._free.put(buffer)
            self._progress.advance(batch.read_bytes)
            self._stages.put(self._done, (number, results))
        flush()
        self._statistics.add(counters)
        self._stages.put(self._done, None)

    def _in_order(self) -> Iterator[Result]:
        running, expected = self._workers, 0
        early: dict[int, list[Result]] = {}
        while running:
            item = self._stages.get(self._done)
            if item is None:
                running -= 1
                continue
            number, results = item
            early[number] = results
            while expected in early:
                yield from early.pop(expected)
                expected += 1
