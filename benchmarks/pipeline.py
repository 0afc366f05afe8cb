"""The bare path of a block, to choose parameters by: read, zero test, hash, compress, encrypt, decode, write.

It has no index, tree or log, and its packs no directory; two equal blocks are stored once. Each thread takes
the next stretch of the disk and fills a pack of its own; full packs go to one more thread, which hashes,
writes and syncs them.
"""

from __future__ import annotations

import os
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from queue import Queue
from threading import Lock

import numpy as np
from blake3 import blake3
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

STRETCH_BYTES = 4 << 20
TAG_BYTES = 16
ASSOCIATED_BYTES = 66
SPARE_PACKS = 2
TRIAL_BYTES, TRIAL_PAYS = 64 << 10, 0.95


@dataclass(frozen=True, slots=True)
class Settings:
    """What is to be chosen."""

    block_bytes: int
    level: int
    pack_bytes: int
    threads: int = 2
    trial: bool = False
    """Compress 64 KiB from the middle of a block first, and the block only if those shrink by 5 %."""


@dataclass(slots=True)
class Outcome:
    """What it came to. ``stages_s`` adds up over the threads, with their waits."""

    wall_s: float = 0.0
    stored_bytes: int = 0
    blocks: int = 0
    zero: int = 0
    found: int = 0
    packs: int = 0
    stages_s: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))

    def add(self, other: Outcome) -> None:
        """Take in what another thread did."""
        self.stored_bytes += other.stored_bytes
        self.blocks += other.blocks
        self.zero += other.zero
        self.found += other.found
        self.packs += other.packs
        for stage, taken_s in other.stages_s.items():
            self.stages_s[stage] += taken_s


@contextmanager
def _stage(outcome: Outcome, name: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    outcome.stages_s[name] += time.perf_counter() - began


class _Stretches:
    """Hands out the disk in order, a stretch at a time."""

    def __init__(self, size_bytes: int, stretch_bytes: int) -> None:
        self._offsets = iter(range(0, size_bytes, stretch_bytes))
        self._lock = Lock()

    def next(self) -> int | None:
        with self._lock:
            return next(self._offsets, None)


class _Known:
    """The ids that some thread has taken on."""

    def __init__(self) -> None:
        self._ids: set[bytes] = set()
        self._lock = Lock()

    def claim(self, identity: bytes) -> bool:
        """Whether the caller is the first with this id, and so has to store it."""
        with self._lock:
            if identity in self._ids:
                return False
            self._ids.add(identity)
            return True


class _PackWriter:
    """Writes full packs beside the threads that fill them, which wait for a slow disk: buffers are few."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self.outcome = Outcome()
        self._folder = folder
        self._empty: Queue[bytearray] = Queue()
        for _ in range(settings.threads + SPARE_PACKS):
            self._empty.put(bytearray(settings.pack_bytes + settings.block_bytes + TAG_BYTES))
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._written: list[Future[None]] = []

    def empty(self) -> bytearray:
        """A buffer to fill; waits until there is one."""
        return self._empty.get()

    def write(self, buffer: bytearray, length_bytes: int) -> None:
        """Hand over a filled buffer."""
        self._written.append(self._thread.submit(self._write_and_free, buffer, length_bytes))

    def finish(self) -> None:
        """Wait until all is written; raises what went wrong."""
        self._thread.shutdown()
        for each in self._written:
            each.result()

    def _write_and_free(self, buffer: bytearray, length_bytes: int) -> None:
        try:
            self._write(memoryview(buffer)[:length_bytes])
        finally:
            self._empty.put(buffer)

    def _write(self, pack: memoryview) -> None:
        with _stage(self.outcome, "hash pack"):
            name = blake3(pack).hexdigest()
        with _stage(self.outcome, "write"), open(self._folder / f"{name}.new", "xb", buffering=0) as file:
            file.write(pack)
            with _stage(self.outcome, "of that, sync"):
                os.fdatasync(file.fileno())
        os.link(self._folder / f"{name}.new", self._folder / name)
        os.unlink(self._folder / f"{name}.new")
        self.outcome.stored_bytes += len(pack)
        self.outcome.packs += 1


class _Worker:
    """One thread: its buffers, its compressor, the pack that it fills."""

    def __init__(
        self, disk: int, settings: Settings, stretches: _Stretches, known: _Known, writer: _PackWriter
    ) -> None:
        self.outcome = Outcome()
        self._disk, self._settings = disk, settings
        self._stretches, self._known, self._writer = stretches, known, writer
        self._compressor = zstd.ZstdCompressor(settings.level)
        self._stretch = bytearray(stretch_bytes(settings))
        self._decrypted = bytearray(settings.block_bytes)
        self._begin_pack()

    def run(self) -> None:
        """Take stretches until there are none."""
        while (offset_bytes := self._stretches.next()) is not None:
            with _stage(self.outcome, "read"):
                length_bytes = os.preadv(self._disk, [self._stretch], offset_bytes)
            stretch = memoryview(self._stretch)[:length_bytes]
            for start in range(0, length_bytes, self._settings.block_bytes):
                self._take(stretch[start : start + self._settings.block_bytes])
        self._end_pack()

    def _take(self, block: memoryview) -> None:
        self.outcome.blocks += 1
        with _stage(self.outcome, "zero test"):
            zero = is_zero(block)
        if zero:
            self.outcome.zero += 1
            return
        with _stage(self.outcome, "hash"):
            identity = blake3(block, key=bytes(32)).digest()
        if not self._known.claim(identity):
            self.outcome.found += 1
            return
        self._store(identity, block)

    def _store(self, identity: bytes, block: memoryview) -> None:
        with _stage(self.outcome, "compress"):
            coded = self._encode(block)
        compressed = coded is not block
        nonce, associated = self._count.to_bytes(12, "little"), identity.ljust(ASSOCIATED_BYTES)
        room = memoryview(self._pack)[self._filled_bytes : self._filled_bytes + len(coded) + TAG_BYTES]
        with _stage(self.outcome, "encrypt"):
            self._cipher.encrypt_into(nonce, coded, associated, room)
        with _stage(self.outcome, "decode"):
            self._prove(identity, nonce, associated, room, compressed=compressed)
        self._count += 1
        self._filled_bytes += len(room)
        if self._filled_bytes >= self._settings.pack_bytes:
            self._end_pack()
            self._begin_pack()

    def _encode(self, block: memoryview) -> memoryview | bytes:
        """The block compressed, or the block itself where that does not pay."""
        if self._settings.trial:
            middle = max(0, (len(block) - TRIAL_BYTES) // 2)
            tried = block[middle : middle + TRIAL_BYTES]
            if len(self._compress(tried)) > TRIAL_PAYS * len(tried):
                return block
        coded = self._compress(block)
        return coded if len(coded) < len(block) else block

    def _compress(self, data: memoryview) -> bytes:
        packed: bytes = self._compressor.compress(data, zstd.ZstdCompressor.FLUSH_FRAME)
        return packed

    def _prove(
        self, identity: bytes, nonce: bytes, associated: bytes, room: memoryview, *, compressed: bool
    ) -> None:
        decrypted = memoryview(self._decrypted)[: len(room) - TAG_BYTES]
        self._cipher.decrypt_into(nonce, room, associated, decrypted)
        decoded = zstd.decompress(decrypted) if compressed else decrypted
        if blake3(decoded, key=bytes(32)).digest() != identity:
            raise RuntimeError("a block decodes to something else than it was made from")

    def _begin_pack(self) -> None:
        self._pack = self._writer.empty()
        self._cipher = AESGCM(AESGCM.generate_key(256))
        self._filled_bytes, self._count = 0, 0

    def _end_pack(self) -> None:
        if self._filled_bytes:
            self._writer.write(self._pack, self._filled_bytes)


def stretch_bytes(settings: Settings) -> int:
    """How much a thread reads at once."""
    return max(STRETCH_BYTES, settings.block_bytes)


def is_zero(block: memoryview) -> bool:
    """Whether all bytes are 0; a look at one word in each 4 KiB spares most blocks the whole test."""
    if len(block) % 8:
        return not np.frombuffer(block, np.uint8).any()
    words = np.frombuffer(block, np.uint64)
    return not words[::512].any() and not words.any()


def run(image: Path, folder: Path, settings: Settings) -> Outcome:
    """Store a disk as packs in an existing folder, durable at the end."""
    total = Outcome()
    began = time.perf_counter()
    disk = os.open(image, os.O_RDONLY)
    stretches, known = _Stretches(os.fstat(disk).st_size, stretch_bytes(settings)), _Known()
    writer = _PackWriter(folder, settings)
    workers = [_Worker(disk, settings, stretches, known, writer) for _ in range(settings.threads)]
    with ThreadPoolExecutor(settings.threads) as threads:
        for done in [threads.submit(each.run) for each in workers]:
            done.result()
    writer.finish()
    os.close(disk)
    _sync_folder(folder)
    total.wall_s = time.perf_counter() - began
    for outcome in (*(each.outcome for each in workers), writer.outcome):
        total.add(outcome)
    return total


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(descriptor)
    os.close(descriptor)
