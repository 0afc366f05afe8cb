"""What each recovery point cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich.table import Table
from tools.demo.ledger import Statement

from stillframe.cli.sizes import format_size


@dataclass(frozen=True, slots=True)
class Moment:
    """A recovery point, and what the ledger said when it was made."""

    title: str
    point_id: str
    time: str
    statement: Statement
    size_bytes: int
    read_bytes: int
    stored_bytes: int
    took_s: float


def table(moments: Sequence[Moment]) -> Table:
    """One row for each moment, and their sum."""
    made = Table(box=box.SIMPLE_HEAD, show_footer=True, pad_edge=False)
    read_bytes = sum(moment.read_bytes for moment in moments)
    stored_bytes = sum(moment.stored_bytes for moment in moments)
    made.add_column("moment", "all of them")
    made.add_column("ledger", justify="right")
    made.add_column("disks", format_size(sum(each.size_bytes for each in moments)), justify="right")
    made.add_column("read", format_size(read_bytes), justify="right")
    made.add_column("stored", format_size(stored_bytes), justify="right")
    made.add_column("time", f"{sum(each.took_s for each in moments):.1f} s", justify="right")
    for moment in moments:
        made.add_row(
            moment.title,
            f"{moment.statement.transfers} transfers",
            format_size(moment.size_bytes),
            format_size(moment.read_bytes),
            format_size(moment.stored_bytes),
            f"{moment.took_s:.1f} s",
        )
    return made
