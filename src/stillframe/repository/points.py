"""Recovery points: what a moment consists of (format, section 8)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from stillframe.disk.still import MAX_DISK_BYTES, Geometry
from stillframe.repository.config import MAX_BLOCK_BYTES, MIN_BLOCK_BYTES
from stillframe.repository.errors import DamagedError


class Consistency(StrEnum):
    """How still the disks stood."""

    APPLICATION = "application"
    FILE_SYSTEM = "file-system"
    CRASH = "crash"
    INCONSISTENT = "inconsistent"


@dataclass(frozen=True, slots=True)
class PointDisk:
    """One disk of a recovery point. ``root`` is the id of its tree's top node, None for an all-zero disk."""

    name: str
    disk_id: str
    geometry: Geometry
    block_bytes: int
    root: bytes | None
    source: str = ""
    excluded: tuple[tuple[int, int], ...] = ()
    unknown: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Members that a newer version wrote; they are kept."""

    @property
    def block_count(self) -> int:
        return -(-self.geometry.size_bytes // self.block_bytes)

    def to_json(self) -> dict[str, Any]:
        return {
            **self.unknown,
            "name": self.name,
            "disk_id": self.disk_id,
            "size_bytes": self.geometry.size_bytes,
            "logical_sector_bytes": self.geometry.logical_sector_bytes,
            "physical_sector_bytes": self.geometry.physical_sector_bytes,
            "block_bytes": self.block_bytes,
            "root": self.root.hex() if self.root else None,
            "source": self.source,
            "excluded": [list(extent) for extent in self.excluded],
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> PointDisk:
        return cls(
            document["name"],
            document["disk_id"],
            Geometry(
                _within(document["size_bytes"], 0, MAX_DISK_BYTES),
                _within(document["logical_sector_bytes"], 1, 1 << 20),
                _within(document["physical_sector_bytes"], 1, 1 << 20),
            ),
            _within(document["block_bytes"], MIN_BLOCK_BYTES, MAX_BLOCK_BYTES),
            bytes.fromhex(document["root"]) if document["root"] else None,
            document["source"],
            tuple((offset, length) for offset, length in document["excluded"]),
            _unknown(document, _DISK_MEMBERS),
        )


@dataclass(frozen=True, slots=True)
class RecoveryPoint:
    """A moment of a machine: complete by itself, whatever happens to other points."""

    point_id: str
    machine: str
    time: datetime
    consistency: Consistency
    consistency_reason: str
    kind: str
    reason: str
    parent: str | None
    disks: tuple[PointDisk, ...]
    host_clock_offset_ms: int | None = None
    set_id: str | None = None
    documents: Mapping[str, bytes] = field(default_factory=dict)
    statistics: Mapping[str, Any] = field(default_factory=dict)
    pinned: bool = False
    tags: Mapping[str, str] = field(default_factory=dict)
    number: int = 0
    """The log entry that made it; 0 before the commit."""
    unknown: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Members that a newer version wrote; they are kept."""

    def at_number(self, number: int) -> RecoveryPoint:
        return replace(self, number=number)

    def disk(self, name: str) -> PointDisk | None:
        return next((disk for disk in self.disks if disk.name == name), None)

    def to_json(self) -> dict[str, Any]:
        return {
            **self.unknown,
            "id": self.point_id,
            "machine": self.machine,
            "time": format_time(self.time),
            "host_clock_offset_ms": self.host_clock_offset_ms,
            "set": self.set_id,
            "consistency": self.consistency.value,
            "consistency_reason": self.consistency_reason,
            "kind": self.kind,
            "reason": self.reason,
            "parent": self.parent,
            "disks": [disk.to_json() for disk in self.disks],
            "documents": {name: blob_id.hex() for name, blob_id in self.documents.items()},
            "statistics": dict(self.statistics),
            "pinned": self.pinned,
            "tags": dict(self.tags),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any], number: int) -> RecoveryPoint:
        """Read a point.

        Raises:
            DamagedError: the document is none.
        """
        try:
            return cls(
                document["id"],
                document["machine"],
                parse_time(document["time"]),
                Consistency(document["consistency"]),
                document["consistency_reason"],
                document["kind"],
                document["reason"],
                document["parent"],
                tuple(PointDisk.from_json(disk) for disk in document["disks"]),
                document["host_clock_offset_ms"],
                document["set"],
                {name: bytes.fromhex(blob_id) for name, blob_id in document["documents"].items()},
                document["statistics"],
                document["pinned"],
                document["tags"],
                number,
                _unknown(document, _POINT_MEMBERS),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DamagedError(f"log entry {number}: holds no recovery point ({error!r})") from error


def _unknown(document: Mapping[str, Any], known: frozenset[str]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name not in known}


def _within(value: Any, least: int, most: int) -> int:
    if not isinstance(value, int) or not least <= value <= most:
        raise ValueError(f"{value!r} is not within {least} and {most}")
    return value


def format_time(moment: datetime) -> str:
    """RFC 3339 in UTC with milliseconds."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse_time(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"a time without a zone: {text!r}")
    return moment


# What this version knows; "number" is in checkpoints only.
_DISK_MEMBERS = frozenset(
    (
        "name",
        "disk_id",
        "size_bytes",
        "logical_sector_bytes",
        "physical_sector_bytes",
        "block_bytes",
        "root",
        "source",
        "excluded",
    )
)
_POINT_MEMBERS = frozenset(
    (
        "id",
        "machine",
        "time",
        "host_clock_offset_ms",
        "set",
        "consistency",
        "consistency_reason",
        "kind",
        "reason",
        "parent",
        "disks",
        "documents",
        "statistics",
        "pinned",
        "tags",
        "number",
    )
)
