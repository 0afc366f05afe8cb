"""Reading blobs: find, fetch, open, and look again where the store moved meanwhile."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

from stillframe.errors import StillframeError
from stillframe.repository.blobs import BlobType, BytesLike
from stillframe.repository.errors import DamagedError, UnknownFeatureError
from stillframe.repository.knowledge import Knowledge
from stillframe.repository.nodes import Node, decode_node
from stillframe.repository.operations import drive
from stillframe.repository.packs import PREFIX_BYTES, PackKind, PackOpener, pack_opener
from stillframe.repository.storage.base import ObjectMissingError, Storage, StorageError

if TYPE_CHECKING:
    from stillframe.repository.index import Location

_OPENERS = 512
_NODES = 4096

_BAD_COPY = (StorageError, DamagedError, UnknownFeatureError)
"""What one copy of a blob may fail with and another may not: it is lost, cut off, on a bad sector; a flipped
epoch is an unknown one."""


class BlobReader:
    """Reads blobs of one repository. Safe between threads."""

    def __init__(self, storage: Storage, knowledge: Knowledge) -> None:
        self._storage = storage
        self._knowledge = knowledge
        self._lock = threading.Lock()
        self._openers: OrderedDict[str, PackOpener] = OrderedDict()
        self._nodes: OrderedDict[bytes, Node] = OrderedDict()

    def read(self, blob_id: bytes, kind: BlobType) -> BytesLike:
        """The bytes of a blob.

        Raises:
            DamagedError: it is lost or damaged.
            ReaderKeyNeededError: guest data, and the credential can only write.
        """
        location = self._knowledge.index.find_one(blob_id)
        failure: StillframeError | None = None
        if location is not None:
            try:
                return self.read_at(location, kind)
            except _BAD_COPY as error:
                failure = error
        return self._read_elsewhere(blob_id, kind, failure)

    def _read_elsewhere(self, blob_id: bytes, kind: BlobType, failure: StillframeError | None) -> BytesLike:
        """The pack was collected since we read the index, or is damaged: the log and other copies help.

        The next collection may move the blob again while we look, so we look as long as the log goes on.
        """
        seen = -1
        while (number := self._refresh()) != seen:
            seen = number
            for location in self._knowledge.index.copies(blob_id):
                try:
                    return self.read_at(location, kind)
                except ObjectMissingError as error:
                    failure = DamagedError(f"{location.object_name}: is lost; it held {_short(blob_id)}")
                    failure.__cause__ = error
                except _BAD_COPY as error:
                    failure = error
        if failure is not None and not isinstance(failure, ObjectMissingError):
            raise failure
        raise DamagedError(
            f"{_short(blob_id)} is not in the repository any more",
            hint="If its recovery point was forgotten meanwhile, that is why; otherwise run: "
            "stillframe repo check",
        )

    def _refresh(self) -> int:
        """Number of the newest log entry; the index is as of it."""
        with self._knowledge.lock:
            drive(self._knowledge.refresh(), self._storage)
            return self._knowledge.state.number

    def read_at(self, location: Location, kind: BlobType) -> BytesLike:
        """The bytes of a blob at a known place; ObjectMissingError if the pack is gone."""
        row = location.row
        opener = self._opener(location)
        stored = self._storage.get_range(location.object_name, row.offset_bytes, row.stored_bytes)
        data = opener.open(row, stored)
        if self._knowledge.ids.id_of(kind, data) != row.blob_id:
            raise DamagedError(f"{location.object_name}: {_short(row.blob_id)} is not what its id says")
        return data

    def read_node(self, blob_id: bytes, height: int) -> Node:
        """A node of a disk tree; a few thousand are kept."""
        with self._lock:
            node = self._nodes.get(blob_id)
            if node is not None:
                self._nodes.move_to_end(blob_id)
        if node is None:
            node = decode_node(self.read(blob_id, BlobType.NODE), height, f"node {_short(blob_id)}")
            with self._lock:
                self._nodes[blob_id] = node
                if len(self._nodes) > _NODES:
                    self._nodes.popitem(last=False)
        if node.height != height:
            raise DamagedError(f"node {_short(blob_id)}: has height {node.height} instead of {height}")
        return node

    def _opener(self, location: Location) -> PackOpener:
        name = location.object_name
        with self._lock:
            opener = self._openers.get(name)
        if opener is None:
            length_bytes = PREFIX_BYTES if location.pack_kind is PackKind.DATA else 48
            opener = pack_opener(name, self._storage.get_range(name, 0, length_bytes), self._knowledge.bundle)
            with self._lock:
                self._openers[name] = opener
                if len(self._openers) > _OPENERS:
                    self._openers.popitem(last=False)
        return opener


def _short(blob_id: bytes) -> str:
    return f"blob {blob_id.hex()[:16]}"
