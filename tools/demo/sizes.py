"""How large the demo is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sizes:
    system_disk_bytes: int
    programs_bytes: int
    search_index_bytes: int
    scattered_writes: int
    ledger_disk_bytes: int
    receipts_bytes: int
    work_s: float
    """How long the ledger works before each backup."""

    @property
    def needed_bytes(self) -> int:
        """What the folder takes at most: tree, image, VHDX, repository, what is restored."""
        return 5 * (self.programs_bytes + self.search_index_bytes) + 2 * self.ledger_disk_bytes


USUAL = Sizes(2 << 30, 128 << 20, 160 << 20, 48, 512 << 20, 8 << 20, 3.0)
SMALL = Sizes(256 << 20, 12 << 20, 16 << 20, 8, 64 << 20, 1 << 20, 0.3)
