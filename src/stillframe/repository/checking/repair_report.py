"""What a repair did."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class RepairReport:
    """What was mended, or would be. ``still_lost``: objects or blobs that no source had."""

    dry_run: bool
    healed_objects: list[str] = field(default_factory=list)
    healed_blobs: int = 0
    still_lost: int = 0
    deleted_packs: list[str] = field(default_factory=list)
    indexed_packs: int = 0

    def to_json(self) -> dict[str, Any]:
        return dict(vars(self))
