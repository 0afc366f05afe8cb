"""One description of an open disk, whatever its format."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stillframe.disk.facts import FormatFacts
from stillframe.disk.still import StillDisk

if TYPE_CHECKING:
    from stillframe.disk.vhdx import VhdxDisk


def facts_of(disk: StillDisk) -> FormatFacts:
    """What the format says of a disk that ``open_disk`` opened."""
    from stillframe.disk.vhdx import VhdxDisk

    if isinstance(disk, VhdxDisk):
        return _vhdx_facts(disk)
    facts = getattr(disk, "facts", None)
    if not isinstance(facts, FormatFacts):
        raise TypeError(f"{type(disk).__name__} is not a disk file")
    return facts


def _vhdx_facts(disk: VhdxDisk) -> FormatFacts:
    info = disk.info
    replayed = f"its log was not empty: {info.log_entries} entries are replayed in memory, not in the file"
    return FormatFacts(
        "vhdx",
        info.kind.value,
        block_bytes=info.block_size_bytes,
        creator=info.creator,
        parents=info.chain,
        notes=(replayed,) if info.log_entries else (),
    )
