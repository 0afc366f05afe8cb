"""The commit log: one order for all, whatever the storage answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillframe.errors import StillframeError
from stillframe.repository import log as log_module
from stillframe.repository.entries import (
    CHECKPOINT_MAGIC,
    ENTRY_MAGIC,
    EntrySealer,
    checkpoint_name,
    checkpoint_number,
    entry_hash,
    entry_name,
)
from stillframe.repository.errors import DamagedError, UnknownFeatureError
from stillframe.repository.keys import Bundle
from stillframe.repository.log import Entry, LogView
from stillframe.repository.operations import Steps, drive
from stillframe.repository.storage.base import StorageError
from tests.repository.make import BUNDLE, REPOSITORY_ID, WRITER, make_point, seeded
from tests.repository.storage.memory import Fault, MemoryStorage, every

SEALER = EntrySealer(BUNDLE, REPOSITORY_ID, seeded("sealer"))


def new_view(seed: str = "view") -> LogView:
    return LogView(EntrySealer(BUNDLE, REPOSITORY_ID, seeded(seed)))


def fixed(entry: Entry) -> Callable[[], Steps[Entry]]:
    def build() -> Steps[Entry]:
        yield from ()
        return entry

    return build


def token(name: str) -> Entry:
    return {"kind": "token", "machine": "vm", "disk": "disk", "token": name, "point": "p"}


def forget(*points: str) -> Entry:
    return {"kind": "forget", "points": list(points), "reason": "test"}


def rewrite(delete: list[str], *, add: list[str] | None = None, drop: list[str] | None = None) -> Entry:
    return {
        "kind": "rewrite",
        "add": add or [],
        "drop": drop or [],
        "delete": delete,
        "suspects": [],
        "sweep": False,
    }


def add(storage: MemoryStorage, view: LogView, entry: Entry) -> int:
    return drive(view.append(fixed(entry)), storage)


def the_token(view: LogView) -> str | None:
    return view.state.tokens["vm", "disk"][0]


def log_of(storage: MemoryStorage) -> list[str]:
    """The tokens that a fresh reader sees, in order."""
    seen = []
    number = 1
    while (name := entry_name(number)) in storage.objects:
        seen.append(SEALER.open(ENTRY_MAGIC, number, storage.objects[name], name)["token"])
        number += 1
    return seen


# One entry.


@given(
    document=st.dictionaries(st.text(), st.text() | st.integers() | st.none()), number=st.integers(1, 2**63)
)
def test_an_entry_round_trips(document: dict[str, Any], number: int) -> None:
    data = SEALER.seal(ENTRY_MAGIC, number, document)
    for bundle in (BUNDLE, WRITER):
        assert EntrySealer(bundle, REPOSITORY_ID).open(ENTRY_MAGIC, number, data, "entry") == document


def test_an_entry_is_bound_to_number_repository_kind_and_key() -> None:
    data = SEALER.seal(ENTRY_MAGIC, 5, {"a": 1})
    stranger = Bundle.generate(seeded("stranger"))
    wrong = [
        (SEALER, ENTRY_MAGIC, 6),
        (SEALER, CHECKPOINT_MAGIC, 5),
        (EntrySealer(BUNDLE, "f" * 32), ENTRY_MAGIC, 5),
        (EntrySealer(stranger, REPOSITORY_ID), ENTRY_MAGIC, 5),
    ]
    for sealer, magic, number in wrong:
        with pytest.raises(DamagedError, match="the entry"):
            sealer.open(magic, number, data, "the entry")


def test_every_flipped_byte_and_every_truncation_of_an_entry_is_refused() -> None:
    data = SEALER.seal(ENTRY_MAGIC, 1, token("a"))
    changed = [data[:place] + bytes((data[place] ^ 1,)) + data[place + 1 :] for place in range(len(data))]
    changed += [data[:length] for length in range(len(data))] + [data + b"\0"]
    for bad in changed:
        with pytest.raises(StillframeError):
            SEALER.open(ENTRY_MAGIC, 1, bad, "entry")


@given(data=st.binary(max_size=100))
def test_random_bytes_are_no_entry(data: bytes) -> None:
    with pytest.raises(DamagedError):
        SEALER.open(ENTRY_MAGIC, 1, data, "entry")


@pytest.mark.parametrize(
    ("number", "name"),
    [
        (1, "log/00000000/00000000000000000001"),
        (999, "log/00000000/00000000000000000999"),
        (1000, "log/00000001/00000000000000001000"),
    ],
)
def test_entries_have_the_names_that_the_format_says(number: int, name: str) -> None:
    assert entry_name(number) == name


def test_checkpoint_names_are_read_back_and_others_are_none() -> None:
    assert checkpoint_number(checkpoint_name(256)) == 256
    for name in ("checkpoint/x", "checkpoint/256", "checkpoint/-1", "checkpoint/", "checkpoint/" + "0" * 19):
        assert checkpoint_number(name) is None


# The log as a whole.


def test_what_one_view_adds_another_reads_in_order() -> None:
    storage = MemoryStorage()
    writer, reader = new_view("writer"), new_view("reader")
    for number, name in enumerate("abcde", 1):
        assert add(storage, writer, token(name)) == number
    drive(reader.open(), storage)
    assert reader.state == writer.state
    assert the_token(reader) == "e"


@given(turns=st.lists(st.integers(0, 1), max_size=12))
def test_two_views_take_turns_and_agree(turns: list[int]) -> None:
    storage = MemoryStorage()
    views = [new_view("one"), new_view("two")]
    for number, turn in enumerate(turns):
        assert add(storage, views[turn], token(str(number))) == number + 1
    assert log_of(storage) == [str(number) for number in range(len(turns))]
    for view in views:
        drive(view.open(), storage)
    assert views[0].state == views[1].state


def test_who_loses_the_race_reads_the_winner_and_builds_again() -> None:
    storage = MemoryStorage()
    slow, quick = new_view("slow"), new_view("quick")
    built_after: list[str | None] = []

    def build() -> Steps[Entry]:
        yield from ()
        built_after.append(slow.state.tokens.get(("vm", "disk"), (None, ""))[0])
        if len(built_after) == 1:  # between our build and our put another writer commits
            add(storage, quick, token("quick"))
        return token("slow")

    assert drive(slow.append(build), storage) == 2
    assert built_after == [None, "quick"]
    assert log_of(storage) == ["quick", "slow"]


def test_what_cannot_be_right_any_more_is_not_put() -> None:
    storage = MemoryStorage()
    slow, quick = new_view("slow"), new_view("quick")
    add(storage, quick, rewrite(["data/aa/1"]))

    def build() -> Steps[Entry]:
        yield from ()
        if "data/aa/1" in slow.deleted_since(0):
            raise DamagedError("gone")
        return token("never")

    with pytest.raises(DamagedError, match="gone"):
        drive(slow.append(build), storage)
    assert [name for name in storage.objects if name.startswith("log/")] == [entry_name(1)]


def test_an_entry_is_built_again_when_its_check_had_to_read_on() -> None:
    """Law 3: what was made sure of before entry N was read says nothing about after N."""
    storage = MemoryStorage()
    slow, quick = new_view("slow"), new_view("quick")
    checks: list[tuple[int, frozenset[str]]] = []

    def build() -> Steps[Entry]:
        checks.append((slow.state.number, slow.deleted_since(0)))
        if len(checks) == 1:
            add(storage, quick, rewrite(["data/aa/1"]))
            yield from slow.catch_up()
        return token("slow")

    assert drive(slow.append(build), storage) == 2
    assert checks == [(0, frozenset()), (1, frozenset({"data/aa/1"}))]


# Storage that fails.


def test_a_put_that_failed_but_happened_is_ours_and_is_not_repeated() -> None:
    storage = MemoryStorage()
    view = new_view()
    storage.plan = every("put", Fault.HAPPENED, "log/")
    assert add(storage, view, token("a")) == 1
    assert (log_of(storage), the_token(view)) == (["a"], "a")


def test_a_put_that_failed_and_did_not_happen_is_an_error_and_can_be_repeated() -> None:
    storage = MemoryStorage()
    view = new_view()
    storage.plan = every("put", Fault.FAILED, "log/")
    with pytest.raises(StorageError, match="made to fail"):
        add(storage, view, token("a"))
    assert view.state.number == 0
    storage.plan = lambda _: None
    assert add(storage, view, token("b")) == 1
    assert log_of(storage) == ["b"]


def test_a_put_that_was_repeated_below_and_found_its_own_first_try_is_ours() -> None:
    class Retrying(MemoryStorage):
        def put_if_absent(self, name: str, data: bytes | bytearray | memoryview) -> bool:
            super().put_if_absent(name, data)
            return super().put_if_absent(name, data)

    storage = Retrying()
    assert add(storage, new_view(), token("a")) == 1
    assert log_of(storage) == ["a"]


def test_a_failed_put_behind_which_another_writer_won_is_a_lost_race() -> None:
    storage = MemoryStorage()
    slow, quick = new_view("slow"), new_view("quick")

    def plan(operation: Any) -> Fault | None:
        if operation.kind == "put" and operation.name == entry_name(1) and not storage.objects:
            copy = storage.copy()
            add(copy, quick, token("quick"))
            storage.objects.update(copy.objects)
            return Fault.FAILED
        return None

    storage.plan = plan
    assert add(storage, slow, token("slow")) == 2
    assert log_of(storage) == ["quick", "slow"]


def test_an_error_is_not_the_end_of_the_log() -> None:
    storage = MemoryStorage()
    add(storage, new_view("writer"), token("a"))
    storage.plan = every("get", Fault.FAILED, "log/")
    view = new_view("reader")
    with pytest.raises(StorageError):
        drive(view.open(), storage)
    with pytest.raises(StorageError):
        add(storage, view, token("b"))
    assert log_of(storage) == ["a"]


@pytest.mark.parametrize("fault", [Fault.EMPTY, Fault.SHORT])
def test_listings_never_decide_what_the_log_holds(fault: Fault, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module, "CHECKPOINT_EVERY", 2)
    storage = MemoryStorage()
    writer, reader = new_view("writer"), new_view("reader")
    for name in "abcde":
        add(storage, writer, token(name))
    storage.plan = every("list", fault)
    drive(reader.open(), storage)
    assert reader.state == writer.state


# A log that was tampered with or damaged.


def three_entries() -> MemoryStorage:
    storage = MemoryStorage()
    view = new_view("writer")
    for name in "abc":
        add(storage, view, token(name))
    return storage


def test_the_log_ends_at_a_gap() -> None:
    storage = three_entries()
    del storage.objects[entry_name(2)]
    view = new_view()
    drive(view.open(), storage)
    assert (view.state.number, the_token(view)) == (1, "a")


def test_a_gap_is_never_filled_with_something_else_unnoticed() -> None:
    storage = three_entries()
    del storage.objects[entry_name(2)]
    writer = new_view("another writer")
    add(storage, writer, token("x"))
    with pytest.raises(DamagedError, match="entry 3"):
        add(storage, writer, token("y"))


def test_an_exchanged_entry_is_refused_by_the_next_one() -> None:
    storage = three_entries()
    forged = SEALER.seal(
        ENTRY_MAGIC, 2, {**token("x"), "previous": entry_hash(storage.objects[entry_name(1)]).hex()}
    )
    storage.objects[entry_name(2)] = forged
    view = new_view()
    with pytest.raises(DamagedError, match="entry 3"):
        drive(view.open(), storage)
    assert the_token(view) == "x"


def test_an_entry_that_does_not_follow_is_refused_itself() -> None:
    storage = three_entries()
    storage.objects[entry_name(2)] = SEALER.seal(ENTRY_MAGIC, 2, {**token("x"), "previous": "00" * 32})
    with pytest.raises(DamagedError, match="entry 2"):
        drive(new_view().open(), storage)


@pytest.mark.parametrize("bad", [b"", b"SFLOG001", bytes(100)])
def test_a_damaged_entry_stops_the_reader_and_names_itself(bad: bytes) -> None:
    storage = three_entries()
    storage.objects[entry_name(2)] = bad
    with pytest.raises(DamagedError, match=entry_name(2)):
        drive(new_view().open(), storage)


@pytest.mark.parametrize(
    "entry",
    [
        {"kind": "point"},
        {"kind": "point", "add": [], "bases": [], "point": {"id": "x"}},
        {"kind": "forget", "points": 5},
        {"kind": "upload", "machine": "vm"},
        {
            "kind": "rewrite",
            "add": [],
            "drop": ["index/unknown"],
            "delete": [],
            "suspects": [],
            "sweep": False,
        },
        {"kind": "rewrite", "add": [], "drop": [], "suspects": [], "sweep": False},
        {"kind": "rewrite", "add": [], "drop": [], "delete": [5], "suspects": [], "sweep": False},
        {"kind": "rewrite", "add": "index/1", "drop": [], "delete": [], "suspects": [], "sweep": False},
        {"kind": "token"},
        {"kind": "window", "window": "w", "add": [], "head": 1, "blobs": ["zz"], "trees": []},
    ],
)
def test_an_entry_that_makes_no_sense_is_damage(entry: Entry) -> None:
    storage = three_entries()
    previous = entry_hash(storage.objects[entry_name(3)]).hex()
    storage.objects[entry_name(4)] = SEALER.seal(ENTRY_MAGIC, 4, {**entry, "previous": previous})
    with pytest.raises(DamagedError, match="log entry 4"):
        drive(new_view().open(), storage)


def test_an_entry_that_readers_would_refuse_is_never_written() -> None:
    storage = MemoryStorage()
    view = new_view()
    point: Entry = {"kind": "point", "point": make_point("a").to_json(), "bases": [], "add": []}
    add(storage, view, point)
    before = view.state.copy()
    for entry in (point, rewrite([], drop=["index/unknown"]), {"kind": "forget", "points": "abc"}):
        with pytest.raises(DamagedError, match="entry 2"):
            add(storage, view, entry)
    assert view.state == before
    assert list(storage.objects) == [entry_name(1)]


def test_entries_of_unknown_kind_are_read_over_and_remembered() -> None:
    storage = three_entries()
    view = new_view("writer")
    add(storage, view, {"kind": "hologram", "angle": 3})
    add(storage, view, token("d"))
    reader = new_view()
    drive(reader.open(), storage)
    assert (the_token(reader), reader.state.unknown) == ("d", {"hologram"})
    with pytest.raises(UnknownFeatureError, match="hologram"):
        reader.state.require_known("collect")


# Checkpoints.


@pytest.fixture
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module, "CHECKPOINT_EVERY", 4)


def busy_log(count: int = 11) -> tuple[MemoryStorage, LogView]:
    """Every kind of entry, known and unknown."""
    storage = MemoryStorage()
    view = new_view("writer")
    entries: list[Entry] = [
        {"kind": "point", "point": make_point("a").to_json(), "bases": [], "add": ["index/1"]},
        {"kind": "upload", "machine": "vm", "add": ["index/2"]},
        {"kind": "point", "point": {**make_point("b").to_json(), "hue": 7}, "bases": [], "add": []},
        {
            **rewrite(["data/aa/1"], add=["index/3"], drop=["index/1"]),
            "sweep": True,
            "suspects": ["data/bb/2"],
        },
        {
            "kind": "window",
            "window": "w",
            "head": {"at": 5},
            "blobs": ["11" * 32],
            "trees": [["22" * 32, 3]],
            "add": ["index/4"],
        },
        token("t"),
        forget(make_point("a").point_id),
        {"kind": "hologram"},
    ]
    for number in range(count):
        add(storage, view, entries[number] if number < len(entries) else token(str(number)))
    return storage, view


@pytest.mark.usefixtures("_often")
def test_reading_from_a_checkpoint_gives_the_same_as_reading_everything() -> None:
    storage, writer = busy_log()
    assert {name for name in storage.objects if name.startswith("checkpoint/")} == {
        checkpoint_name(4),
        checkpoint_name(8),
    }
    reader = new_view()
    drive(reader.open(), storage)
    assert reader.state == writer.state
    assert reader.state.points[make_point("b").point_id].unknown == {"hue": 7}
    read = {operation.name for operation in storage.operations[-6:]}
    assert entry_name(8) not in read
    assert {entry_name(9), checkpoint_name(8)} <= read


@pytest.mark.usefixtures("_often")
@pytest.mark.parametrize(
    "damage", ["missing", "cut off", "empty", "every byte", "unknown epoch", "unreadable"]
)
def test_a_checkpoint_that_cannot_be_used_costs_reading_only(damage: str) -> None:
    storage, writer = busy_log()
    name = checkpoint_name(8)
    whole = storage.objects[name]
    variants: dict[str, list[bytes]] = {
        "cut off": [whole[:-1], whole[:24]],
        "empty": [b""],
        "every byte": [whole[:n] + bytes((whole[n] ^ 255,)) + whole[n + 1 :] for n in range(len(whole))],
        "unknown epoch": [whole[:8] + b"\x09\0" + whole[10:]],
    }
    for bad in variants.get(damage, [whole]):
        storage.objects[name] = bad
        if damage == "missing":
            del storage.objects[name]
        if damage == "unreadable":
            storage.plan = every("get", Fault.FAILED, name)
        reader = new_view()
        drive(reader.open(), storage)
        assert reader.state == writer.state


@pytest.mark.usefixtures("_often")
def test_names_that_are_no_checkpoints_are_passed_over() -> None:
    storage, writer = busy_log()
    storage.objects["checkpoint/zzz"] = b"junk"
    storage.objects["checkpoint/99999"] = storage.objects[checkpoint_name(8)]
    reader = new_view()
    drive(reader.open(), storage)
    assert reader.state == writer.state


@pytest.mark.usefixtures("_often")
def test_a_checkpoint_of_another_number_is_not_believed() -> None:
    storage, writer = busy_log()
    storage.objects[checkpoint_name(11)] = storage.objects[checkpoint_name(8)]
    reader = new_view()
    drive(reader.open(), storage)
    assert reader.state == writer.state


@pytest.mark.usefixtures("_often")
def test_a_checkpoint_that_could_not_be_written_is_no_error() -> None:
    storage = MemoryStorage()
    view = new_view()
    storage.plan = every("put", Fault.FAILED, "checkpoint/")
    for name in "abcdefgh":
        add(storage, view, token(name))
    assert log_of(storage) == list("abcdefgh")


@pytest.mark.usefixtures("_often")
def test_a_checkpoint_that_does_not_fit_the_log_is_noticed() -> None:
    """An old copy of entries 5 and up was put back beside a newer checkpoint, or the log was forked."""
    storage, _ = busy_log(8)
    other = three_entries()
    for name in "defghij":
        add(other, new_view(name), token(name))
    mixed = MemoryStorage({**other.objects, checkpoint_name(8): storage.objects[checkpoint_name(8)]})
    with pytest.raises(DamagedError, match="entry 9"):
        drive(new_view().open(), mixed)


@pytest.mark.usefixtures("_often")
def test_a_view_that_has_begun_never_skips_deletions_for_a_checkpoint() -> None:
    storage = MemoryStorage()
    early = new_view("early")
    drive(early.open(), storage)
    writer = new_view("writer")
    add(storage, writer, rewrite(["data/aa/1"]))
    for name in "abcdefgh":
        add(storage, writer, token(name))
    drive(early.open(), storage)
    assert early.deleted_since(0) == {"data/aa/1"}


def test_deletions_are_counted_from_the_entry_after() -> None:
    storage = MemoryStorage()
    view = new_view()
    for number in range(1, 4):
        add(storage, view, rewrite([f"data/aa/{number}"]))
    assert [len(view.deleted_since(number)) for number in range(4)] == [3, 2, 1, 0]
