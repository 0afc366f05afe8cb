"""Log replay on logs made by hand: which entries count, and what they do."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillframe.disk.reader import RandomReader, read_bytes
from stillframe.disk.vhdx import overlay
from stillframe.disk.vhdx.errors import BlockMapError, LogError, UnsupportedVhdxError
from stillframe.disk.vhdx.header import read_current_header
from stillframe.disk.vhdx.overlay import replayed
from tests.disk.vhdx import builder as by_hand
from tests.disk.vhdx.builder import (
    BAT_AT,
    BLOCKS_AT,
    KIB,
    LOG_AT,
    METADATA_AT,
    MIB,
    OTHER_LOG_ID,
    DiskBuilder,
    EntryFields,
    Write,
    Zero,
    chained,
    dirty,
    present,
)
from tests.disk.vhdx.reading import open_memory, read

PAGE = 4 * KIB
OLD, NEW, NEWER = (bytes([value]) * PAGE for value in (1, 2, 3))
DISK = DiskBuilder(entries={0: present(BLOCKS_AT)}, pieces=((BLOCKS_AT, OLD * 4),))


def after(*entries: EntryFields, builder: DiskBuilder = DISK) -> bytes:
    """The first four pages of the disk after replay."""
    return read(open_memory(dirty(builder, *entries).reader()), 0, 4 * PAGE)


def test_a_data_descriptor_writes_its_page() -> None:
    assert after(EntryFields(0, 7, (Write(BLOCKS_AT + PAGE, NEW),))) == OLD + NEW + OLD * 2


def test_a_page_is_put_together_from_descriptor_and_data_sector() -> None:
    page = bytes(range(256)) * 16
    assert after(EntryFields(0, 7, (Write(BLOCKS_AT, page),)))[:PAGE] == page


def test_a_zero_descriptor_zeroes_its_range() -> None:
    assert after(EntryFields(0, 7, (Zero(BLOCKS_AT + PAGE, 2 * PAGE),))) == OLD + bytes(2 * PAGE) + OLD


def test_later_descriptors_win() -> None:
    changes = Write(BLOCKS_AT, NEW), Zero(BLOCKS_AT, 2 * PAGE), Write(BLOCKS_AT + PAGE, NEWER)
    assert after(EntryFields(0, 7, changes)) == bytes(PAGE) + NEWER + OLD * 2


def test_later_entries_win() -> None:
    entries = chained(0, 7, (Write(BLOCKS_AT, NEW),), (), (Write(BLOCKS_AT, NEWER),))
    assert after(*entries)[:PAGE] == NEWER


def test_sequence_that_wraps_around_the_end_of_the_log() -> None:
    start = MIB - 3 * PAGE
    entries = chained(start, 7, (Write(BLOCKS_AT, NEW),), (Write(BLOCKS_AT + PAGE, NEWER),))
    assert entries[1].position == MIB - PAGE, "its data sector must lie at the start of the log"
    assert after(*entries) == NEW + NEWER + OLD * 2


def test_entries_of_an_earlier_use_of_the_log_are_ignored() -> None:
    stale = EntryFields(0, 90, (Write(BLOCKS_AT, NEWER),), log_id=OTHER_LOG_ID)
    assert after(stale, EntryFields(32 * KIB, 7, (Write(BLOCKS_AT, NEW),)))[:PAGE] == NEW


def test_the_sequence_with_the_greatest_head_is_replayed() -> None:
    old = chained(0, 3, (Write(BLOCKS_AT, NEWER),), (Write(BLOCKS_AT + PAGE, NEWER),))
    assert after(*old, EntryFields(64 * KIB, 9, (Write(BLOCKS_AT, NEW),))) == NEW + OLD * 3


def test_what_lies_before_the_tail_is_not_replayed_again() -> None:
    done, needed, head = chained(0, 7, (Write(BLOCKS_AT, NEWER),), (Write(BLOCKS_AT + PAGE, NEW),), ())
    head = replace(head, tail=needed.position)
    assert after(done, needed, head) == OLD + NEW + OLD * 2


def test_a_gap_in_the_numbers_ends_the_sequence() -> None:
    first = EntryFields(0, 7, (Write(BLOCKS_AT, NEW),))
    behind = EntryFields(first.length, 9, (Write(BLOCKS_AT, NEWER),), tail=0)
    assert after(first, behind)[:PAGE] == NEW


@pytest.mark.parametrize("torn_at", [4, 20, 70, 80, 5000, 2 * PAGE - 1])
def test_a_torn_last_entry_was_never_acknowledged(torn_at: int) -> None:
    first, torn = chained(0, 7, (Write(BLOCKS_AT, NEW),), (Write(BLOCKS_AT, NEWER),))
    raw = bytearray(torn.encode())
    raw[torn_at] ^= 0xFF
    reader = dirty(DISK, first).reader((LOG_AT + torn.position, bytes(raw)))
    assert read(open_memory(reader), 0, PAGE) == NEW


def test_a_torn_data_sector_shows_although_the_checksum_would_hold() -> None:
    """Both halves of the number are checked too: here the checksum was made over the torn sector."""
    first, torn = chained(0, 7, (Write(BLOCKS_AT, NEW),), (Write(BLOCKS_AT, NEWER),))
    raw = bytearray(torn.encode())
    raw[-4] ^= 1
    reader = dirty(DISK, first).reader((LOG_AT + torn.position, by_hand.sealed(bytes(raw))))
    assert read(open_memory(reader), 0, PAGE) == NEW


@pytest.mark.parametrize("field", [64 + 24, 64])
def test_a_descriptor_of_another_entry_or_kind(field: int) -> None:
    """Its number, or its signature, is not the entry's; the checksum was made over it."""
    first, wrong = chained(0, 7, (Write(BLOCKS_AT, NEW),), (Write(BLOCKS_AT, NEWER),))
    raw = bytearray(wrong.encode())
    raw[field] ^= 1
    reader = dirty(DISK, first).reader((LOG_AT + wrong.position, by_hand.sealed(bytes(raw))))
    assert read(open_memory(reader), 0, PAGE) == NEW


def test_a_head_whose_tail_lies_outside_makes_no_sequence() -> None:
    with pytest.raises(LogError, match="no valid sequence"):
        after(EntryFields(0, 7, (Write(BLOCKS_AT, NEW),), tail=64 * KIB))


def test_an_empty_log_with_an_id_is_corrupt() -> None:
    with pytest.raises(LogError, match="no valid sequence"):
        after()


def test_without_an_id_nothing_is_replayed() -> None:
    pieces = by_hand.log_area(EntryFields(0, 7, (Write(BLOCKS_AT, NEW),)))
    disk = open_memory(DISK.with_(pieces=(*DISK.pieces, *pieces)).reader())
    assert not disk.info.log_replayed
    assert read(disk, 0, PAGE) == OLD


def test_an_entry_without_descriptors_is_one() -> None:
    disk = open_memory(dirty(DISK, EntryFields(0, 7)).reader())
    assert disk.info.log_entries == 1
    assert read(disk, 0, PAGE) == OLD


def test_many_descriptors_need_more_than_one_sector() -> None:
    builder = DISK.with_(pieces=((BLOCKS_AT, OLD * 256),))
    changes = tuple(Write(BLOCKS_AT + index * PAGE, bytes([index + 3]) * PAGE) for index in range(130))
    found = read(open_memory(dirty(builder, EntryFields(0, 7, changes)).reader()), 0, 131 * PAGE)
    assert found == b"".join(change.contents for change in changes) + OLD


def test_the_log_may_rewrite_the_bat() -> None:
    page = by_hand.bat_page({0: present(BLOCKS_AT + MIB)})
    builder = DISK.with_(pieces=(*DISK.pieces, (BLOCKS_AT + MIB, NEW)))
    assert after(EntryFields(0, 7, (Write(BAT_AT, page),)), builder=builder)[:PAGE] == NEW


def test_the_log_may_rewrite_the_region_tables() -> None:
    """The BAT moves; without replay the tables are not even valid."""
    moved = BLOCKS_AT + 2 * MIB
    table = by_hand.region_table((by_hand.BAT, moved, MIB, 1), (by_hand.METADATA, METADATA_AT, MIB, 1))
    changes = Write(192 * KIB, table[:PAGE]), Zero(192 * KIB + PAGE, len(table) - PAGE)
    builder = DISK.with_(
        pieces=(
            *DISK.pieces,
            (192 * KIB, b"x" * len(table)),
            (256 * KIB, b"x" * len(table)),
            (moved, by_hand.bat_page({1: present(BLOCKS_AT)})),
        )
    )
    disk = open_memory(dirty(builder, EntryFields(0, 7, changes)).reader())
    assert read(disk, MIB, PAGE) == OLD


def test_the_log_may_extend_the_file() -> None:
    """A block that was allocated behind the end of the file, which only LastFileOffset knows to be longer."""
    grown = DISK.file_bytes + MIB
    page = by_hand.bat_page({0: present(DISK.file_bytes)})
    entry = EntryFields(0, 7, (Write(BAT_AT, page), Write(DISK.file_bytes + PAGE, NEW)), last=grown)
    assert after(entry) == bytes(PAGE) + NEW + bytes(2 * PAGE)
    without = replace(entry, changes=entry.changes[:1], last=0)
    with pytest.raises(BlockMapError, match="outside the file"):
        after(without)


def test_a_file_shorter_than_the_log_knows_was_cut() -> None:
    with pytest.raises(LogError, match="the log knows that it had"):
        after(EntryFields(0, 7, flushed=DISK.file_bytes + MIB))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (Write(64 * KIB, NEW), "to the headers"),
        (Zero(0, PAGE), "to the headers"),
        (Write(LOG_AT + PAGE, NEW), "to the log itself"),
        (Zero(192 * KIB, 2 * MIB), "to the log itself"),
        (Zero(BLOCKS_AT, 1 << 62), "makes a file of"),
        (Write((1 << 64) - PAGE, NEW), "makes a file of"),
    ],
)
def test_targets_that_no_writer_means(change: Write | Zero, message: str) -> None:
    with pytest.raises(LogError, match=message):
        after(EntryFields(0, 7, (change,)))


def test_a_file_that_would_become_absurdly_long() -> None:
    with pytest.raises(LogError, match="makes a file of"):
        after(EntryFields(0, 7, last=1 << 60))


@pytest.mark.parametrize(
    "change", [Write(BLOCKS_AT + 512, NEW), Zero(BLOCKS_AT + 512, PAGE), Zero(BLOCKS_AT, 512)]
)
def test_an_entry_with_crooked_targets_is_none(change: Write | Zero) -> None:
    good = EntryFields(0, 7, (Write(BLOCKS_AT, NEW),))
    assert after(good, EntryFields(good.length, 8, (change,), tail=0))[:PAGE] == NEW


def test_more_descriptors_than_we_allow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overlay, "MAX_REPLAYED_DESCRIPTORS", 2)
    with pytest.raises(UnsupportedVhdxError, match="3 log descriptors"):
        after(EntryFields(0, 7, (Zero(BLOCKS_AT, PAGE),) * 3))


# --- against a model: a writer that keeps a log, read at any moment

TARGETS = 24  # pages of the first block


def write_at(page: int, value: int) -> Write:
    return Write(BLOCKS_AT + page * PAGE, bytes([value]) * PAGE)


def zero_at(page: int, count: int) -> Zero:
    return Zero(BLOCKS_AT + page * PAGE, count * PAGE)


changes = st.one_of(
    st.builds(write_at, st.integers(0, TARGETS - 1), st.integers(1, 255)),
    st.builds(zero_at, st.integers(0, TARGETS - 4), st.integers(0, 3)),
)


def apply(model: bytearray, change: Write | Zero) -> None:
    at = change.offset - BLOCKS_AT
    if isinstance(change, Write):
        model[at : at + PAGE] = change.contents
    else:
        model[at : at + change.length] = bytes(change.length)


@settings(max_examples=60, deadline=None)
@given(
    batches=st.lists(st.lists(changes, max_size=6).map(tuple), min_size=1, max_size=6),
    start=st.integers(0, MIB // PAGE - 1),
    stale=st.integers(0, MIB // PAGE - 1),
    first_read=st.integers(0, TARGETS * PAGE - 1),
)
def test_replay_equals_applying_every_change(
    batches: list[tuple[Write | Zero, ...]], start: int, stale: int, first_read: int
) -> None:
    model = bytearray(OLD * TARGETS)
    for batch in batches:
        for change in batch:
            apply(model, change)
    left_over = EntryFields(stale * PAGE, 1 << 40, (Write(BLOCKS_AT, NEWER),), log_id=OTHER_LOG_ID)
    builder = DISK.with_(pieces=((BLOCKS_AT, OLD * TARGETS), *by_hand.log_area(left_over)))
    disk = open_memory(dirty(builder, *chained(start * PAGE, 7, *batches)).reader())
    assert read(disk, 0, len(model)) == model
    assert read(disk, first_read, len(model) - first_read) == model[first_read:]


def test_replayed_reader_gives_any_range() -> None:
    entry = EntryFields(0, 7, (Write(BLOCKS_AT + PAGE, NEW), Zero(BLOCKS_AT + 2 * PAGE, PAGE)))
    file = dirty(DISK, entry).reader()
    reader: RandomReader = replayed(file, read_current_header(file))[0]
    whole = OLD + NEW + bytes(PAGE) + OLD
    for start in (0, 1, PAGE - 1, PAGE, PAGE + 1, 2 * PAGE - 1, 3 * PAGE - 5):
        for length in (1, 7, PAGE, PAGE + 2):
            assert read_bytes(reader, BLOCKS_AT + start, length) == whole[start : start + length]
    with pytest.raises(LogError):
        read_bytes(reader, reader.size_bytes - 1, 2)


def test_log_id_alone_decides() -> None:
    """A header naming another log id finds nothing, although a whole sequence is there."""
    builder = dirty(DISK, EntryFields(0, 7, (Write(BLOCKS_AT, NEW),)))
    other = builder.with_(header=replace(builder.header, log_id=UUID(int=1)))
    with pytest.raises(LogError):
        open_memory(other.reader())
