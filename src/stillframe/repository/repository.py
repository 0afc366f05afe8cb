"""A repository, opened: the front door of this room."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from stillframe.errors import UsageError
from stillframe.repository.blobs import BlobType, BytesLike
from stillframe.repository.config import CONFIG_NAME, Config, read_config, verify_config
from stillframe.repository.draft import Draft
from stillframe.repository.entries import ENTRIES_PER_SHARD, entry_folder, number_of
from stillframe.repository.errors import DamagedError, NoRepositoryError
from stillframe.repository.keys import Bundle, Entropy
from stillframe.repository.knowledge import Knowledge
from stillframe.repository.log import Entry
from stillframe.repository.nodes import Node
from stillframe.repository.operations import Get, Put, Steps, drive, put_own
from stillframe.repository.points import RecoveryPoint, format_time
from stillframe.repository.reading import BlobReader
from stillframe.repository.slots import Slot, seal_with_passphrase, seal_with_recovery_key
from stillframe.repository.state import State
from stillframe.repository.storage.base import ObjectMissingError, Storage
from stillframe.repository.unlocking import load_config

if TYPE_CHECKING:
    from stillframe.repository.index import Index, Location


def create_repository(
    storage: Storage,
    passphrase: str,
    *,
    block_bytes: int | None = None,
    fan_out: int | None = None,
    pack_bytes: int | None = None,
    compression: str | None = None,
    entropy: Entropy = os.urandom,
) -> tuple[Repository, str]:
    """Make a new repository; it comes opened, with its recovery key as it is to be printed.

    Raises:
        UsageError: there is one already.
    """
    created = format_time(datetime.now(UTC))
    given = {
        "block_bytes": block_bytes,
        "fan_out": fan_out,
        "pack_bytes": pack_bytes,
        "compression": compression,
    }
    chosen: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    config = Config(entropy(16).hex(), created, **chosen)
    bundle = Bundle.generate(entropy)
    config_bytes = config.to_bytes(bundle)
    try:
        read_config(config_bytes)
    except DamagedError as error:
        raise UsageError(f"no repository can have such parameters: {error}") from error
    recovery_slot, recovery_key = seal_with_recovery_key(
        bundle, config.repository_id, label="recovery key", created=created, entropy=entropy
    )
    slot = seal_with_passphrase(
        bundle, config.repository_id, passphrase, label="first", created=created, entropy=entropy
    )
    drive(_create([recovery_slot, slot], config_bytes), storage)
    return Repository(storage, Knowledge(config, bundle, entropy)), recovery_key


def _create(slots: Iterable[Slot], config_bytes: bytes) -> Steps[None]:
    """``config`` comes last: a repository exists when it does."""
    try:
        yield Get(CONFIG_NAME)
    except ObjectMissingError:
        pass
    else:
        raise NoRepositoryError("there is a repository already at this place; nothing was changed")
    for slot in slots:
        yield Put(slot.object_name, slot.to_bytes())
    if not (yield from put_own(CONFIG_NAME, config_bytes)):
        raise NoRepositoryError("another repository was made at this place meanwhile; it was not changed")


Unlock = Callable[[Config], Bundle]


def open_repository(storage: Storage, unlock: Unlock, *, entropy: Entropy = os.urandom) -> Repository:
    """Open a repository with whatever ``unlock`` has for it.

    Raises:
        NoRepositoryError: there is none.
        WrongKeyError: it does not open.
    """
    config_bytes = load_config(storage)
    config = read_config(config_bytes)
    config.require("read")
    bundle = unlock(config)
    verify_config(config_bytes, bundle)
    repository = Repository(storage, Knowledge(config, bundle, entropy))
    repository.read_log()
    return repository


class Repository:
    """One repository with its keys. Safe between threads; any number of processes may have it open."""

    def __init__(self, storage: Storage, knowledge: Knowledge) -> None:
        self.storage = storage
        self.knowledge = knowledge
        self._lock = knowledge.lock
        self._reader = BlobReader(storage, knowledge)
        self._indexed = False

    @property
    def config(self) -> Config:
        return self.knowledge.config

    @property
    def state(self) -> State:
        return self.knowledge.state

    @property
    def index(self) -> Index:
        """The index, read when it is first asked for: listing points does not need it."""
        with self._lock:
            if not self._indexed:
                self.refresh()
            return self.knowledge.index

    def read_log(self) -> None:
        """Learn what was committed since, without the index."""
        with self._lock:
            log = self.knowledge.log
            first = not self.state.number
            drive(log.open() if first else log.catch_up(), self.storage)
            if first:
                self._refuse_hole()

    def _refuse_hole(self) -> None:
        """Make sure that the log does not go on behind the entry that seems to be its last.

        A reader stops at the first number that is not there. Were an entry lost, a writer would fill its
        place and split the log; later entries give it away. (A listing may show too little, and prove
        nothing; what it shows is there.)
        """
        shards = {entry_folder(self.state.number + ahead) for ahead in (0, 1, ENTRIES_PER_SHARD)}
        listed = max((number_of(name) for shard in shards for name in self.storage.list(shard)), default=0)
        if listed > self.state.number:
            drive(self.knowledge.log.catch_up(), self.storage)
        if listed > self.state.number:
            raise DamagedError(
                f"log entry {self.state.number + 1} is missing, but there are entries up to {listed}",
                hint="Bring the log/ folder back from a mirror; do not write to this repository before.",
            )

    def refresh(self) -> None:
        """Learn what was committed since, index included."""
        with self._lock:
            if not self._indexed:
                self._open_cache()
            drive(self.knowledge.refresh(), self.storage)
            self._indexed = True

    def _open_cache(self) -> None:
        from stillframe.repository.segment_cache import SegmentCache, default_cache_folder

        folder = default_cache_folder(self.config.repository_id)
        if folder is not None:
            metadata_key = self.knowledge.bundle.keys_of(1, "the cache").metadata_key
            self.knowledge.cache = SegmentCache(folder, metadata_key)

    def points(self) -> list[RecoveryPoint]:
        """All live recovery points, oldest first by log order."""
        return sorted(self.state.points.values(), key=lambda point: point.number)

    def read_blob(self, blob_id: bytes, kind: BlobType) -> BytesLike:
        _ = self.index
        return self._reader.read(blob_id, kind)

    def read_at(self, location: Location) -> BytesLike:
        """The bytes of one copy of a blob; for checking and mending."""
        return self._reader.read_at(location, location.row.kind)

    def read_node(self, blob_id: bytes, height: int) -> Node:
        _ = self.index
        return self._reader.read_node(blob_id, height)

    def draft(self) -> Draft:
        """Begin to store something; the index is as of now."""
        self.config.require("write")
        with self._lock:  # nobody may advance the log between the index and the draft that is made from it
            self.refresh()
            return Draft(self.knowledge)

    def commit_point(self, draft: Draft, point: RecoveryPoint, bases: Iterable[str] = ()) -> RecoveryPoint:
        """Make a recovery point durable; see ``Draft.commit_point``."""
        with self._lock:
            number = drive(draft.commit_point(point, list(bases)), self.storage)
        return replace(point, number=number)

    def commit_upload(self, draft: Draft, machine: str) -> None:
        with self._lock:
            drive(draft.commit_upload(machine), self.storage)

    def forget(self, point_ids: Iterable[str], reason: str) -> None:
        """Forget recovery points; their space comes back with the next collection."""
        wanted = list(point_ids)

        def build() -> Steps[Entry]:
            yield from ()
            self.state.require_known("forget")
            return {"kind": "forget", "points": wanted, "reason": reason}

        with self._lock:
            self.config.require("collect")
            drive(self.knowledge.log.append(build), self.storage)

    def set_token(self, machine: str, disk: str, token: str | None, point_id: str) -> None:
        """Keep a change-tracking token for the next run; it supersedes the disk's earlier one."""

        def build() -> Steps[Entry]:
            yield from ()
            return {"kind": "token", "machine": machine, "disk": disk, "token": token, "point": point_id}

        with self._lock:
            drive(self.knowledge.log.append(build), self.storage)
