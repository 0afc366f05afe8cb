"""How moments are shown to people: local time with its offset, to the second."""

from __future__ import annotations

from datetime import datetime


def format_local(moment: datetime) -> str:
    """``2026-11-23T14:00:05+01:00``: what is shown can be given back as a time of a point."""
    return moment.astimezone().isoformat(timespec="seconds")
