"""The file that ``backup image --changed`` takes: which ranges of which disk changed.

``[[offset_bytes, length_bytes], ...]`` for one image; an object of such lists by disk name for several.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from stillframe.disk.still import MAX_DISK_BYTES, Extent
from stillframe.errors import UsageError

_FORM = "Write [[offset_bytes, length_bytes], ...], or an object of such lists by disk name."


def read_changed(path: Path, names: Sequence[str]) -> dict[str, list[Extent]]:
    """Changed extents by disk name, ascending and disjoint; a disk that the file does not name is not in it.

    Raises:
        UsageError: the file cannot be read, is no such document, or names other disks.
    """
    document = _load(path)
    if isinstance(document, list):
        if len(names) != 1:
            raise UsageError(f"{path}: is one list, but there are {len(names)} images", hint=_FORM)
        return {names[0]: _extents(document, str(path))}
    if not isinstance(document, dict):
        raise UsageError(f"{path}: is neither a list nor an object", hint=_FORM)
    for name in document:
        if name not in names:
            hint = f"Its disks: {', '.join(names)}"
            raise UsageError(f"{path}: names {name!r}, which is none of the disks", hint=hint)
    return {name: _extents(listed, f"{path}: {name}") for name, listed in document.items()}


def _load(path: Path) -> object:
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: is no JSON document: {error}", hint=_FORM) from error


def _extents(listed: object, origin: str) -> list[Extent]:
    if not isinstance(listed, list):
        raise UsageError(f"{origin}: is not a list", hint=_FORM)
    return _merged(sorted(_range(item, f"{origin}: item {number}") for number, item in enumerate(listed)))


def _range(item: object, origin: str) -> tuple[int, int]:
    """Offset and end."""
    match item:
        case [int(offset), int(length)] if not (isinstance(offset, bool) or isinstance(length, bool)):
            if offset < 0 or length < 0 or offset + length > MAX_DISK_BYTES:
                raise UsageError(f"{origin}: {offset}+{length} is no range of a disk")
            return offset, offset + length
    raise UsageError(f"{origin}: is not [offset_bytes, length_bytes]", hint=_FORM)


def _merged(ranges: Sequence[tuple[int, int]]) -> list[Extent]:
    merged: list[tuple[int, int]] = []
    for start, end in ranges:
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        elif start < end:
            merged.append((start, end))
    return [Extent(start, end - start) for start, end in merged]
