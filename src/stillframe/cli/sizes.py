"""Sizes as people write and read them: ``1MiB``, ``32M``, ``4096``."""

from __future__ import annotations

import re

from stillframe.errors import UsageError

_UNITS = ("", "K", "M", "G", "T", "P")
_SIZE = re.compile(r"(\d{1,18})\s*(?:([KMGTP])(?:i?B)?|B)?", re.IGNORECASE)


def parse_size(text: str) -> int:
    """Bytes of a size with an optional binary unit: ``64K``, ``64KiB`` and ``64kb`` all mean 65536.

    Raises:
        UsageError: the text is no size.
    """
    match = _SIZE.fullmatch(text.strip())
    if not match:
        raise UsageError(
            f"'{text}' is not a size", hint="Write a number of bytes, or for example 64K or 32MiB."
        )
    return int(match[1]) << 10 * _UNITS.index((match[2] or "").upper())


def format_size(size_bytes: int) -> str:
    """A size with the largest binary unit it fills, to two decimals: ``1.5 GiB``."""
    power = max(0, min(len(_UNITS) - 1, (size_bytes.bit_length() - 1) // 10))
    if power == 0:
        return f"{size_bytes} B"
    value = f"{size_bytes / (1 << 10 * power):.2f}".rstrip("0").rstrip(".")
    return f"{value} {_UNITS[power]}iB"
