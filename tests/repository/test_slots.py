"""Key slots: what opens them, what does not, and what a hostile storage may not make this machine do."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from hypothesis import given
from hypothesis import strategies as st

from stillframe.repository import slots
from stillframe.repository.config import read_config
from stillframe.repository.errors import DamagedError, WrongKeyError
from stillframe.repository.repository import create_repository, open_repository
from stillframe.repository.slots import (
    Slot,
    format_recovery_key,
    looks_like_recovery_key,
    parse_recovery_key,
    seal_with_passphrase,
    seal_with_recovery_key,
)
from stillframe.repository.unlocking import read_slots, unlock_slots
from tests.repository.make import BUNDLE, REPOSITORY_ID, make_config, seeded
from tests.repository.storage.memory import MemoryStorage

NOW = "2026-11-23T14:00:00.000Z"


@pytest.fixture(autouse=True)
def _cheap_passphrases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "_MEMORY_KIB", 64)
    monkeypatch.setattr(slots, "_ITERATIONS", 1)


def passphrase_slot(passphrase: str = "correct horse", repository_id: str = REPOSITORY_ID) -> Slot:
    return seal_with_passphrase(
        BUNDLE,
        repository_id,
        passphrase,
        label="first",
        created=NOW,
        entropy=seeded(repository_id + passphrase),
    )


def with_kdf(slot: Slot, **changes: Any) -> Slot:
    return replace(slot, kdf={**slot.kdf, **changes})


def test_what_new_slots_cost_is_what_rfc_9106_recommends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    kdf = passphrase_slot().kdf
    assert (kdf["name"], kdf["memory_kib"], kdf["iterations"], kdf["lanes"]) == ("argon2id", 64 << 10, 3, 4)


@pytest.mark.parametrize("passphrase", ["correct horse", "Straße 😀", " ", "a" * 5000])
def test_a_passphrase_opens_its_slot_and_no_other_does(passphrase: str) -> None:
    slot = Slot.from_bytes(passphrase_slot(passphrase).to_bytes(), passphrase_slot(passphrase).object_name)
    assert slot.unlock(passphrase) == BUNDLE
    for wrong in (passphrase + " ", passphrase[:-1], passphrase.swapcase() + "x"):
        with pytest.raises(WrongKeyError):
            slot.unlock(wrong)


def test_a_passphrase_that_is_no_text_is_a_wrong_one() -> None:
    with pytest.raises(WrongKeyError, match="UTF-8"):
        passphrase_slot().unlock("\udcff")


def test_the_recovery_key_opens_its_slot_however_it_is_typed() -> None:
    slot, printed = seal_with_recovery_key(BUNDLE, REPOSITORY_ID, label="", created=NOW, entropy=seeded())
    for typed in (printed, printed.lower(), printed.replace("-", " "), f"\n {printed.replace('-', '')} "):
        assert slot.unlock(typed) == BUNDLE
    other = format_recovery_key(bytes(32))
    with pytest.raises(WrongKeyError):
        slot.unlock(other)


@given(key=st.binary(min_size=32, max_size=32))
def test_the_printed_key_round_trips(key: bytes) -> None:
    printed = format_recovery_key(key)
    assert looks_like_recovery_key(printed)
    assert parse_recovery_key(printed) == key
    assert [len(group) for group in printed.split("-")] == [4] * 14


@given(
    key=st.binary(min_size=32, max_size=32),
    place=st.integers(0, 55),
    typed=st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"),
)
def test_a_mistyped_character_is_noticed(key: bytes, place: int, typed: str) -> None:
    printed = format_recovery_key(key).replace("-", "")
    mistyped = printed[:place] + typed + printed[place + 1 :]
    if mistyped == printed:
        assert parse_recovery_key(mistyped) == key
    else:
        with pytest.raises(WrongKeyError, match="mistyped"):
            parse_recovery_key(mistyped)


@given(key=st.binary(min_size=32, max_size=32), place=st.integers(0, 54))
def test_two_exchanged_characters_are_noticed(key: bytes, place: int) -> None:
    printed = format_recovery_key(key).replace("-", "")
    swapped = printed[:place] + printed[place + 1] + printed[place] + printed[place + 2 :]
    if swapped != printed:
        with pytest.raises(WrongKeyError, match="mistyped"):
            parse_recovery_key(swapped)


@pytest.mark.parametrize("typed", ["", "ABCD", "0" * 56, "A" * 55, "A" * 57, "Ä" * 56])
def test_what_is_no_recovery_key_is_told_from_a_mistyped_one(typed: str) -> None:
    with pytest.raises(WrongKeyError, match="no recovery key"):
        parse_recovery_key(typed)


@pytest.mark.parametrize(
    "hostile",
    [
        {"memory_kib": 4194305},
        {"memory_kib": 1 << 62},
        {"iterations": 65},
        {"lanes": 65},
        {"memory_kib": -1},
        {"iterations": 0},
        {"iterations": -1},
        {"lanes": 0},
        {"salt": ""},
        {"salt": "zz"},
        {"salt": 7},
        {"memory_kib": float("inf")},
        {"memory_kib": None},
        {"iterations": "many"},
    ],
)
def test_hostile_parameters_are_refused_before_any_work(
    hostile: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    slot = passphrase_slot()

    class Idle:
        def __init__(self, **parameters: Any) -> None:
            Argon2id(**parameters)

        def derive(self, _: bytes) -> bytes:
            raise AssertionError("work was done")

    monkeypatch.setattr("stillframe.repository.slots.Argon2id", Idle)
    with pytest.raises(DamagedError):
        with_kdf(slot, **hostile).unlock("correct horse")


def test_a_slot_of_an_unknown_kind_opens_nothing() -> None:
    with pytest.raises(WrongKeyError, match="unknown kind"):
        replace(passphrase_slot(), kind="tpm").unlock("correct horse")


@pytest.mark.parametrize("field", ["repository_id", "slot_id"])
def test_a_slot_is_bound_to_its_repository_and_id(field: str) -> None:
    slot = passphrase_slot()
    moved = replace(slot, **{field: getattr(slot, field)[::-1]})
    with pytest.raises(WrongKeyError):
        moved.unlock("correct horse")


@pytest.mark.parametrize("place", [0, 11, 12, 40, -17, -1])
def test_a_changed_byte_of_the_seal_is_refused(place: int) -> None:
    slot = passphrase_slot()
    sealed = bytearray(slot.sealed)
    sealed[place] ^= 1
    with pytest.raises(WrongKeyError):
        replace(slot, sealed=bytes(sealed)).unlock("correct horse")


@pytest.mark.parametrize("sealed", [b"", b"short", bytes(12), bytes(27), bytes(28)])
def test_a_seal_that_is_too_short_is_a_wrong_key(sealed: bytes) -> None:
    with pytest.raises(WrongKeyError):
        replace(passphrase_slot(), sealed=sealed).unlock("correct horse")


@given(data=st.binary(max_size=200))
def test_random_bytes_are_no_slot(data: bytes) -> None:
    with pytest.raises(DamagedError):
        Slot.from_bytes(data, "keys/0011223344556677")


@pytest.mark.parametrize("missing", ["slot", "repository_id", "kind", "label", "created", "kdf", "sealed"])
def test_a_slot_without_a_member_is_damaged(missing: str) -> None:
    slot = passphrase_slot()
    document = json.loads(slot.to_bytes())
    del document[missing]
    with pytest.raises(DamagedError, match=slot.object_name):
        Slot.from_bytes(json.dumps(document).encode(), slot.object_name)


def test_nesting_without_end_is_damage_not_a_crash() -> None:
    with pytest.raises(DamagedError):
        Slot.from_bytes(b"[" * 200_000, "keys/0011223344556677")


def test_a_copy_of_a_slot_under_another_name_does_not_count() -> None:
    slot = passphrase_slot()
    with pytest.raises(DamagedError, match="copy"):
        Slot.from_bytes(slot.to_bytes(), "keys/0011223344556677")


def test_slots_of_other_repositories_and_damaged_ones_lock_nobody_out() -> None:
    ours, foreign = passphrase_slot(), passphrase_slot("other", "f" * 32)
    hostile = with_kdf(passphrase_slot("third"), memory_kib=1 << 40)
    junk = MemoryStorage({slot.object_name: slot.to_bytes() for slot in (ours, foreign, hostile)})
    junk.objects["keys/0000000000000000"] = b"{"
    junk.objects["keys/ffffffffffffffff"] = b""
    config = make_config()
    assert {slot.slot_id for slot in read_slots(junk, config)} == {ours.slot_id, hostile.slot_id}
    assert unlock_slots(junk, config, "correct horse") == BUNDLE
    with pytest.raises(WrongKeyError):
        unlock_slots(junk, config, "other")


def test_a_wrong_key_is_refused_at_once_with_an_exit_code_of_its_own() -> None:
    storage = MemoryStorage()
    create_repository(storage, "right")
    read = len(storage.operations)
    with pytest.raises(WrongKeyError) as refused:
        open_repository(storage, lambda config: unlock_slots(storage, config, "wrong"))
    assert refused.value.exit_code == 3
    assert "\n" not in str(refused.value)
    names = {operation.name for operation in storage.operations[read:]}
    assert not any(name.startswith(("log", "checkpoint", "index", "data", "meta")) for name in names)


def test_init_gives_two_ways_in() -> None:
    storage = MemoryStorage()
    created, recovery_key = create_repository(storage, "right")
    config = read_config(storage.objects["config"])
    for secret in ("right", recovery_key):
        opened = open_repository(storage, partial(unlock_slots, storage, secret=secret))
        assert opened.knowledge.bundle == created.knowledge.bundle
    assert {slot.kind for slot in read_slots(storage, config)} == {"passphrase", "recovery"}
