"""Who meets whom. Small, so that each is explored to its end; together they touch every law of writing."""

from __future__ import annotations

from stillframe.repository import log
from stillframe.repository.collection import consolidate, plan
from tests.repository.explorer.actors import (
    collector,
    dying_uploader,
    forgetter,
    merger,
    reader,
    slow_writer,
    stubborn_writer,
    writer,
)
from tests.repository.explorer.explore import Patch, Scenario
from tests.repository.make import WRITER

PACKS_MERGE: Patch = (plan, "MIN_SMALL_PACKS", 2)
SEGMENTS_MERGE: Patch = (consolidate, "MANY_SEGMENTS", 2)
NO_SMALL_SEGMENTS: Patch = (plan, "SMALL_SEGMENT_ROWS", 0)
CHECKPOINTS: Patch = (log, "CHECKPOINT_EVERY", 2)

SAME_DISK = Scenario(
    "two writers store the same block and race for an entry",
    before=[writer("old", "AB")],
    actors=[writer("one", "AC"), writer("two", "AC")],
    contents={"old": "AB", "one": "AC", "two": "AC"},
)

THREE_WRITERS = Scenario(
    "three writers, one on the point of another",
    before=[writer("old", "AB")],
    actors=[writer("one", "AC", base="old"), writer("two", "AC"), writer("three", "CD")],
    contents={"old": "AB", "one": "AC", "two": "AC", "three": "CD"},
)

BASE_FORGOTTEN = Scenario(
    "a writer's base is forgotten and collected",
    before=[writer("old", "AB")],
    actors=[
        writer("one", "AC", base="old"),
        forgetter("forgetter", "old"),
        collector("collector", head_start=False),
    ],
    contents={"old": "AB", "one": "AC"},
)

BLOCK_REVIVED = Scenario(
    "a writer counts on a block that a collector finds dead",
    before=[writer("old", "AB"), writer("kept", "AD"), forgetter("forgetter", "old")],
    actors=[writer("one", "B."), collector("collector")],
    contents={"old": "AB", "kept": "AD", "one": "B."},
)

TWO_COLLECTORS = Scenario(
    "two collectors race",
    before=[writer("old", "AB"), writer("kept", "AD"), forgetter("forgetter", "old")],
    actors=[collector("first"), collector("second")],
    contents={"old": "AB", "kept": "AD"},
)

TWO_COLLECTORS_AND_WRITER = Scenario(
    "two collectors and a writer who counts on a dead block",
    before=[writer("old", "AB"), writer("kept", "AD"), forgetter("forgetter", "old")],
    actors=[writer("one", "B."), collector("first"), collector("second")],
    contents={"old": "AB", "kept": "AD", "one": "B."},
)

SLEEPING_COLLECTOR = Scenario(
    "a collector sleeps over its copies while another, who cannot read data, collects twice",
    before=[
        writer("old", "AB"),
        writer("kept", "A."),
        forgetter("forgetter", "old"),
        collector("0", 1, WRITER),
    ],
    actors=[collector("sleeper"), collector("other", 2, WRITER, head_start=False)],
    contents={"old": "AB", "kept": "A."},
)

SLOW_WRITER = Scenario(
    "a writer sleeps over its packs while others collect twice",
    before=[writer("old", "AB")],
    actors=[writer("one", "AC"), collector("collector", 2, head_start=False)],
    contents={"old": "AB", "one": "AC"},
)

DYING_WRITER = Scenario(
    "one writer dies, another stores the same, a collector consolidates",
    before=[writer("old", "AB"), writer("more", "BC")],
    actors=[dying_uploader("dead", "AX"), writer("one", "AX"), collector("collector")],
    contents={"old": "AB", "more": "BC", "one": "AX"},
    settings=[PACKS_MERGE],
)

UPLOAD = Scenario(
    "a writer commits what it has, is collected three times, and goes on",
    before=[writer("old", "A.")],
    actors=[slow_writer("one", "B.", "BC"), collector("collector", 3, head_start=False)],
    contents={"old": "A.", "one": "BC"},
    converges=False,  # an unfinished upload stays for two collections more
)

READER = Scenario(
    "a point is read while its packs are consolidated twice",
    before=[writer("old", "AB"), writer("more", "CD")],
    actors=[reader("reader", "old"), collector("collector", 2)],
    contents={"old": "AB", "more": "CD"},
    settings=[(plan, "MIN_SMALL_PACKS", 1)],
    readers={"reader": "old"},
    converges=False,  # every collection finds packs small enough to be copied
)

READER_FORGOTTEN = Scenario(
    "a point is read, forgotten and collected",
    before=[writer("old", "AB"), writer("more", "AD")],
    actors=[reader("reader", "old"), forgetter("forgetter", "old"), collector("collector", head_start=False)],
    contents={"old": "AB", "more": "AD"},
    readers={"reader": "old"},
)

SEGMENTS_MERGED = Scenario(
    "a writer and a collector merge segments beside a writer",
    before=[writer("old", "AB"), writer("more", "CD"), writer("kept", "AD"), forgetter("forgetter", "more")],
    actors=[merger("merger"), collector("collector"), writer("one", "BC")],
    contents={"old": "AB", "more": "CD", "kept": "AD", "one": "BC"},
    settings=[SEGMENTS_MERGE],
)

LARGE_SEGMENTS_MEET = Scenario(
    "two collectors whose segments are too large to be merged",
    before=[writer("old", "AB"), writer("kept", "AD"), forgetter("forgetter", "old")],
    actors=[writer("one", "B."), collector("first"), collector("second", 1, WRITER)],
    contents={"old": "AB", "kept": "AD", "one": "B."},
    settings=[NO_SMALL_SEGMENTS],
)

OPENING = Scenario(
    "checkpoints are written while others open the repository",
    before=[writer("old", "AB"), writer("kept", "AD")],
    actors=[writer("one", "AC"), forgetter("forgetter", "old"), reader("reader", "kept")],
    contents={"old": "AB", "kept": "AD", "one": "AC"},
    settings=[CHECKPOINTS],
    readers={"reader": "kept"},
)

IN_FLIGHT = Scenario(
    "a writer's packs lie there unnamed when a collector comes",
    before=[writer("old", "AB")],
    actors=[writer("one", "AC"), collector("collector", head_start=False)],
    contents={"old": "AB", "one": "AC"},
)

LISTED = Scenario(
    "a collector finds something to delete",
    before=[writer("old", "AB"), writer("kept", "CD"), forgetter("forgetter", "old")],
    actors=[collector("collector", head_start=False)],
    contents={"old": "AB", "kept": "CD"},
)

STUBBORN = Scenario(
    "a commit that failed is tried again, beside another writer",
    before=[writer("old", "AB")],
    actors=[stubborn_writer("one", "AC"), writer("two", "AD")],
    contents={"old": "AB", "one": "AC", "two": "AD"},
)
"""For two faults: the entry was put, and neither that answer nor the look for it came through."""

SMALL = (
    SAME_DISK,
    THREE_WRITERS,
    BASE_FORGOTTEN,
    BLOCK_REVIVED,
    IN_FLIGHT,
    TWO_COLLECTORS,
    SLEEPING_COLLECTOR,
    SLOW_WRITER,
    DYING_WRITER,
    READER,
    READER_FORGOTTEN,
    OPENING,
)
"""Seconds each."""

FAULTY = (SAME_DISK, BLOCK_REVIVED, IN_FLIGHT, LISTED, DYING_WRITER, TWO_COLLECTORS, OPENING)
"""Seconds each with a fault."""

LARGE = (TWO_COLLECTORS_AND_WRITER, UPLOAD, SEGMENTS_MERGED, LARGE_SEGMENTS_MEET)
