"""A disk to measure with: the same bytes on every machine for the same size and seed.

A disk is a sequence of runs, as files and free space are on a real one. Their lengths are spread evenly over
the powers of two from 64 KiB to 8 MiB, and they begin at any 4 KiB cluster: measured on ext4, nine files in
ten begin at no 64 KiB boundary, large ones hardly less often than small ones. Aligned runs would flatter
fixed blocks.

Each run is of one kind, with its share of the disk:

- *zero* (25 %): a hole in the file.
- *text* (35 %): words by Zipf's law, in 4 KiB pages, of which 15 % are an earlier page with six 8-byte edits,
  as in databases and logs. ``zstd -1`` brings it to about a third. Real programs and libraries gain less from
  entropy coding than such text does, so zstd's negative levels look worse here than on those.
- *random* (25 %): media, archives, encrypted data.
- *copy* (7.5 %): one of a few files, half text and half random, about six times over the disk.
- *pattern* (7.5 %): one page of text over and over: preallocated, formatted, filled.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

PAGE_BYTES = 4096
SHORTEST_RUN_PAGES = 16
LONGEST_RUN_PAGES = 2048
COPIES_OF_EACH_FILE = 6

Words = npt.NDArray[Any]


class Kind(IntEnum):
    """What a run holds; the numbers are part of the seed of its contents."""

    ZERO = 0
    TEXT = 1
    RANDOM = 2
    COPY = 3
    PATTERN = 4


SHARES = {Kind.TEXT: 0.35, Kind.RANDOM: 0.25, Kind.COPY: 0.075, Kind.PATTERN: 0.075}


@dataclass(frozen=True, slots=True)
class Run:
    """Neighbouring pages of one kind. Runs of equal kind, source and length hold equal bytes."""

    kind: Kind
    source: int
    offset_bytes: int
    length_bytes: int


def generate(path: Path, size_bytes: int, seed: int) -> list[Run]:
    """Write the disk of this size and seed, holes where it is zero, and return what is where.

    Raises:
        ValueError: the size is not a positive multiple of 4 KiB.
        FileExistsError: there is such a file already.
    """
    runs = layout(size_bytes, seed)
    with open(path, "xb") as disk:
        for run in runs:
            if run.kind is not Kind.ZERO:
                disk.seek(run.offset_bytes)
                disk.write(contents(run, seed))
        disk.truncate(size_bytes)
        os.fdatasync(disk.fileno())
    return runs


def layout(size_bytes: int, seed: int) -> list[Run]:
    """The runs of the disk in the order of their places; they cover it without gaps."""
    if size_bytes <= 0 or size_bytes % PAGE_BYTES:
        raise ValueError(f"a disk has whole pages of {PAGE_BYTES} bytes, not {size_bytes} bytes")
    random = np.random.default_rng([seed, 0])
    total_pages = size_bytes // PAGE_BYTES
    pages_of_kind = {kind: int(total_pages * share) for kind, share in SHARES.items()}
    pages_of_kind[Kind.ZERO] = total_pages - sum(pages_of_kind.values())
    pieces = [
        (kind, source, pages)
        for kind, pages_of_all in pages_of_kind.items()
        for source, pages in _split(kind, pages_of_all, random)
    ]
    random.shuffle(pieces)
    return list(_placed(pieces))


def _placed(pieces: list[tuple[Kind, int, int]]) -> Iterator[Run]:
    offset_bytes = 0
    for kind, source, pages in pieces:
        yield Run(Kind(kind), int(source), offset_bytes, int(pages) * PAGE_BYTES)
        offset_bytes += int(pages) * PAGE_BYTES


def _split(kind: Kind, total_pages: int, random: np.random.Generator) -> Iterator[tuple[int, int]]:
    """The runs of one kind as (source, pages); together they have ``total_pages``."""
    longest = max(SHORTEST_RUN_PAGES, min(LONGEST_RUN_PAGES, total_pages // COPIES_OF_EACH_FILE))
    if kind is not Kind.COPY:
        yield from enumerate(_lengths(total_pages, longest, random))
        return
    files = list(_lengths(max(1, total_pages // COPIES_OF_EACH_FILE), longest, random))
    rounds, rest = divmod(total_pages, sum(files))
    for _ in range(rounds):
        yield from enumerate(files)
    if rest:
        yield len(files), rest  # a file of its own: what is too short for one more copy of all


def _lengths(total_pages: int, longest_pages: int, random: np.random.Generator) -> Iterator[int]:
    left = total_pages
    while left > 0:
        pages = int(np.exp(random.uniform(np.log(SHORTEST_RUN_PAGES), np.log(longest_pages + 1))))
        yield min(left, pages)
        left -= pages


def contents(run: Run, seed: int) -> bytes:
    """The bytes of a run; they depend on nothing but the run and the seed."""
    random = np.random.default_rng([seed, 1, run.kind, run.source])
    return _CONTENTS[run.kind](random, run.length_bytes)


def text(random: np.random.Generator, length_bytes: int) -> bytes:
    """Words by Zipf's law; some pages are an earlier page with small edits."""
    pages = np.frombuffer(bytearray(_words(random, -(-length_bytes // PAGE_BYTES) * PAGE_BYTES)), np.uint8)
    pages = pages.reshape(-1, PAGE_BYTES)
    for number in np.flatnonzero(random.random(len(pages)) < 0.15).tolist():
        if number > 0:
            pages[number] = pages[number - 1 - int(random.integers(0, min(number, 64)))]
            for place in random.integers(0, PAGE_BYTES - 8, 6).tolist():
                pages[number, place : place + 8] = random.integers(0, 256, 8, np.uint8)
    return pages.tobytes()[:length_bytes]


def _words(random: np.random.Generator, length_bytes: int) -> bytes:
    vocabulary = _vocabulary()
    written = b""
    while len(written) < length_bytes:
        picks = random.integers(0, len(vocabulary), 1 + (length_bytes - len(written)) // 5)
        written += b" ".join(vocabulary[picks].tolist()) + b"\n"
    return written[:length_bytes]


@cache
def _vocabulary() -> Words:
    """20 000 words, each as often as Zipf's law (exponent 0.9) wants it: picked evenly, they follow it."""
    random = np.random.default_rng(20_000)
    letters = np.frombuffer(b"etaoinshrdlucmfwypvbgkjqxz", np.uint8)
    letter_shares = 1 / np.arange(1, 27) / (1 / np.arange(1, 27)).sum()
    lengths = random.integers(2, 12, 20_000).tolist()
    words = [random.choice(letters, length, p=letter_shares).tobytes() for length in lengths]
    weights = np.arange(1, 20_001) ** -0.9
    counts = np.maximum(1, np.round(weights / weights.sum() * 65_536)).astype(int)
    slots = np.empty(int(counts.sum()), object)
    slots[:] = [word for word, count in zip(words, counts.tolist(), strict=True) for _ in range(count)]
    return slots


def _zeros(_: np.random.Generator, length_bytes: int) -> bytes:
    return bytes(length_bytes)


def _random(random: np.random.Generator, length_bytes: int) -> bytes:
    return random.bytes(length_bytes)


def _copied_file(random: np.random.Generator, length_bytes: int) -> bytes:
    return _random(random, length_bytes) if random.integers(0, 2) else text(random, length_bytes)


def _pattern(random: np.random.Generator, length_bytes: int) -> bytes:
    return text(random, PAGE_BYTES) * (length_bytes // PAGE_BYTES)


_CONTENTS: dict[Kind, Callable[[np.random.Generator, int], bytes]] = {
    Kind.ZERO: _zeros,
    Kind.TEXT: text,
    Kind.RANDOM: _random,
    Kind.COPY: _copied_file,
    Kind.PATTERN: _pattern,
}
