"""Merging small index segments beside running writers: a point a minute leaves no thousand segments."""

from __future__ import annotations

from stillframe.repository.collection.own_objects import require_undeleted
from stillframe.repository.collection.plan import SMALL_SEGMENT_ROWS
from stillframe.repository.errors import ConflictError
from stillframe.repository.knowledge import Knowledge
from stillframe.repository.log import Entry
from stillframe.repository.operations import Delete, Steps, drive, put_new
from stillframe.repository.repository import Repository
from stillframe.repository.segments import encode_segment, merge
from stillframe.repository.storage.base import StorageError

MANY_SEGMENTS = 64


class _OvertakenError(ConflictError):
    """Somebody else merged them; all the better."""


def consolidate_index(repository: Repository) -> int:
    """Merge the small segments if there are many; how many were merged.

    Needs no reader key, so every writer can do it after its commit.
    """
    with repository.knowledge.lock:
        return drive(consolidate_steps(repository.knowledge), repository.storage)


def consolidate_steps(knowledge: Knowledge) -> Steps[int]:
    """See ``consolidate_index``."""
    state = knowledge.state
    if len(state.segments) - len(state.uploads) < MANY_SEGMENTS or state.unknown:
        return 0  # as far as this process knows, which is enough: the next run looks again
    yield from knowledge.refresh()
    small = {
        name: segment
        for name, segment in knowledge.index.segments.items()
        if len(segment) < SMALL_SEGMENT_ROWS and name not in knowledge.state.uploads
    }
    if len(small) < MANY_SEGMENTS or knowledge.state.unknown:
        return 0
    since = knowledge.state.number
    name, data = encode_segment(merge(list(small.values())), knowledge.bundle, knowledge.entropy)
    yield from put_new(name, data)

    def build() -> Steps[Entry]:
        yield from ()
        if not small.keys() <= knowledge.state.segments.keys():
            raise _OvertakenError("the segments were merged by another process")
        require_undeleted(knowledge, since, [name])
        return {
            "kind": "rewrite",
            "add": [name],
            "drop": list(small),
            "delete": list(small),
            "suspects": [],
            "sweep": False,
        }

    try:
        yield from knowledge.log.append(build)
    except ConflictError:
        return 0
    for dropped in small:
        try:
            yield Delete(dropped)
        except StorageError:
            break  # a writer that may not delete leaves them to the next collection, which sees orphans
    return len(small)
