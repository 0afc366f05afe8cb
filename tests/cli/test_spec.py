"""Where a point ends and what lies in it begins."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillframe.cli.spec import split_point


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("web@latest", ("web@latest", "")),
        ("web@latest:", ("web@latest", "")),
        ("web@latest:disk.vhdx/etc/passwd", ("web@latest", "disk.vhdx/etc/passwd")),
        ("web@2026-11-23T14:00", ("web@2026-11-23T14:00", "")),
        ("web@2026-11-23T14:00:disk.vhdx/a:b", ("web@2026-11-23T14:00", "disk.vhdx/a:b")),
        ("web@2026-11-23T14:00:30:disk.vhdx", ("web@2026-11-23T14:00:30", "disk.vhdx")),
        ("web@2026-11-23T14:00:12.vhdx/x", ("web@2026-11-23T14:00", "12.vhdx/x")),
        ("web@2026-11-23T14:00:30.5+01:00:12.vhdx", ("web@2026-11-23T14:00:30.5+01:00", "12.vhdx")),
        ("web@2026-11-23T14:00Z:d", ("web@2026-11-23T14:00Z", "d")),
        ("SQL: a@b@latest:d", ("SQL: a@b@latest", "d")),
        ("0f51:disk.vhdx/x", ("0f51", "disk.vhdx/x")),
        ("0f517279c3607e84", ("0f517279c3607e84", "")),
        ("web@latest:a\nb", ("web@latest", "a\nb")),
    ],
)
def test_a_point_ends_at_the_colon_after_it(text: str, parts: tuple[str, str]) -> None:
    assert split_point(text) == parts


@pytest.mark.parametrize(
    "text", ["", "disk.vhdx:/etc", "./web:/x", "0f5:disk", "web@later:d", "web", "@latest"]
)
def test_what_does_not_begin_with_a_point(text: str) -> None:
    assert split_point(text) is None


@given(st.text(max_size=200))
def test_nothing_is_lost(text: str) -> None:
    parts = split_point(text)
    assert parts is None or text in (f"{parts[0]}:{parts[1]}", parts[0])
