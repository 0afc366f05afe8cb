"""Recovery points for tests of what only looks at their headers."""

from __future__ import annotations

from datetime import datetime

from stillframe.repository.points import Consistency, RecoveryPoint


def make_point(
    moment: datetime,
    *,
    number: int = 1,
    machine: str = "web",
    consistency: Consistency = Consistency.CRASH,
    pinned: bool = False,
    point_id: str = "",
) -> RecoveryPoint:
    return RecoveryPoint(
        point_id=point_id or f"{number:016x}",
        machine=machine,
        time=moment,
        consistency=consistency,
        consistency_reason="",
        kind="full",
        reason="",
        parent=None,
        disks=(),
        pinned=pinned,
        number=number,
    )
