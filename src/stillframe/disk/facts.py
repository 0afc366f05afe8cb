"""What a format says of a disk beyond what every disk has: for people, and for choices between formats."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FormatFacts:
    """Facts of the format, not of the guest's data."""

    format: str  # "vhdx", "vhd", "raw", "qcow2"
    kind: str  # "fixed", "dynamic", "differencing", "device"
    block_bytes: int | None = None
    creator: str = ""
    parents: tuple[str, ...] = ()  # nearest first
    notes: tuple[str, ...] = ()  # what a careful administrator should know
