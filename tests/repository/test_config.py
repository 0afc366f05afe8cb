"""The repository's config: readable by all, forgeable by none."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillframe.errors import StillframeError
from stillframe.repository.config import compression_level, read_config, verify_config
from stillframe.repository.errors import DamagedError, UnknownFeatureError, WrongKeyError
from stillframe.repository.keys import Bundle
from tests.repository.make import BUNDLE, WRITER, make_config, seeded

DATA = make_config().to_bytes(BUNDLE)


def edited(**changes: Any) -> bytes:
    document = json.loads(DATA.splitlines()[0])
    document.update(changes)
    return json.dumps(document).encode() + b"\n"


def accepts(data: bytes) -> bool:
    try:
        read_config(data)
        verify_config(data, BUNDLE)
    except StillframeError:
        return False
    return True


def test_config_round_trips_and_both_kinds_of_holder_can_verify_it() -> None:
    assert read_config(DATA) == make_config()
    verify_config(DATA, BUNDLE)
    verify_config(DATA, WRITER)


def test_every_changed_byte_is_refused() -> None:
    assert accepts(DATA)
    for place in range(len(DATA)):
        for bit in (0x01, 0x20, 0x80):
            changed = DATA[:place] + bytes((DATA[place] ^ bit,)) + DATA[place + 1 :]
            assert not accepts(changed), f"byte {place}"


def test_every_truncation_and_anything_appended_is_refused() -> None:
    assert not any(accepts(DATA[:length]) for length in range(len(DATA)))
    assert not any(accepts(DATA + more) for more in (b"\n", b" ", b"0", DATA))


def test_the_keys_of_another_repository_do_not_fit() -> None:
    with pytest.raises(WrongKeyError):
        verify_config(DATA, Bundle.generate(seeded("another")))


@given(data=st.binary(max_size=300))
def test_random_bytes_are_damage(data: bytes) -> None:
    with pytest.raises(DamagedError):
        read_config(data)


def test_nesting_without_end_is_damage_not_a_crash() -> None:
    with pytest.raises(DamagedError):
        read_config(b"[" * 200_000)


@pytest.mark.parametrize(
    "changes",
    [
        {"block_bytes": 0},
        {"block_bytes": 65537},
        {"block_bytes": 32 << 20},
        {"block_bytes": "65536"},
        {"fan_out": 1},
        {"fan_out": 1025},
        {"pack_bytes": 0},
        {"pack_bytes": 257 << 20},
        {"compression": "zstd:20"},
        {"compression": "zstd:-51"},
        {"compression": "lzma:1"},
        {"compression": "zstd:"},
        {"repository_id": "00"},
        {"repository_id": None},
        {"features": []},
    ],
)
def test_parameters_out_of_bounds_are_damage(changes: dict[str, Any]) -> None:
    with pytest.raises(DamagedError, match="config"):
        read_config(edited(**changes))


def test_a_format_of_the_future_is_said_to_be_one() -> None:
    with pytest.raises(UnknownFeatureError) as refused:
        read_config(edited(format="stillframe 2", block_bytes="whatever"))
    assert "newer" in refused.value.hint


def test_an_unknown_feature_stops_only_the_operations_that_it_concerns() -> None:
    config = read_config(edited(features={"read": [], "write": ["x"], "collect": ["x", "y"]}))
    config.require("read")
    for operation in ("write", "collect"):
        with pytest.raises(UnknownFeatureError, match="x"):
            config.require(operation)


@pytest.mark.parametrize(("text", "level"), [("none", None), ("zstd:1", 1), ("zstd:-5", -5), ("zstd:19", 19)])
def test_compression_names_a_level(text: str, level: int | None) -> None:
    assert compression_level(text) == level
