"""Law 3 for whoever stores objects and names them in a rewrite later (format, section 2)."""

from __future__ import annotations

from collections.abc import Iterable

from stillframe.repository.errors import ConflictError
from stillframe.repository.knowledge import Knowledge


def require_undeleted(knowledge: Knowledge, since: int, names: Iterable[str]) -> None:
    """Make sure that no entry after ``since`` deleted objects that were stored, but not named yet.

    To a collection they look abandoned: two of them, and who slept meanwhile must not name them any more.

    Raises:
        ConflictError: they are gone, or will be.
    """
    gone = knowledge.log.deleted_since(since).intersection(names)
    if gone:
        raise ConflictError(
            f"{min(gone)}: was collected before the entry that was to name it",
            hint="Nothing is broken; run it again.",
        )
