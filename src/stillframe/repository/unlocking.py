"""From what a person has, a passphrase or a recovery key, to the keys of a repository.

Nothing here knows the log or the index: unlocking can begin while they are still being imported.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor

from stillframe.repository.config import CONFIG_NAME, Config
from stillframe.repository.errors import DamagedError, NoRepositoryError, WrongKeyError
from stillframe.repository.keys import Bundle
from stillframe.repository.slots import RECOVERY, Slot, looks_like_recovery_key
from stillframe.repository.storage.base import ObjectMissingError, Storage

SLOT_FOLDER = "keys/"


def load_config(storage: Storage) -> bytes:
    """The bytes of ``config``; needs no key."""
    try:
        return storage.get(CONFIG_NAME)
    except ObjectMissingError:
        raise NoRepositoryError(
            f"{storage.location}: is no Stillframe repository",
            hint=f"Make one: stillframe repo init --repo {storage.location}",
        ) from None


def read_slots(storage: Storage, config: Config) -> list[Slot]:
    """The repository's own slots.

    Those of an init that was cut off are passed over, and so is what is damaged: one bad object must not lock
    out who holds a good key.
    """
    slots = []
    for name in sorted(storage.list(SLOT_FOLDER)):
        try:
            slot = Slot.from_bytes(storage.get(name), name)
        except (ObjectMissingError, DamagedError):  # missing: removed since it was listed
            continue
        if slot.repository_id == config.repository_id:
            slots.append(slot)
    return slots


def unlock_slots(storage: Storage, config: Config, secret: str) -> Bundle:
    """Try a passphrase or recovery key on the repository's slots; raises as ``open_a_slot``."""
    return open_a_slot(storage, config, secret)[1]


def open_a_slot(storage: Storage, config: Config, secret: str) -> tuple[Slot, Bundle]:
    """The slot that a passphrase or recovery key opens, and the keys within.

    Raises:
        WrongKeyError: it opens none.
    """
    slots = read_slots(storage, config)
    for slot in _likeliest_first(slots, secret):
        try:
            return slot, slot.unlock(secret)
        except (WrongKeyError, DamagedError):
            continue
    damaged = damaged_slots(storage)
    raise WrongKeyError(
        f"{storage.location}: the passphrase or recovery key is wrong"
        + (f", or its slot is one of those that are damaged: {', '.join(damaged)}" if damaged else ""),
        hint="Any passphrase of `stillframe repo key list` or the printed recovery key opens it.",
    )


def damaged_slots(storage: Storage) -> list[str]:
    """Names of objects in the place of slots that are none: whose key it was, nobody can tell."""
    damaged = []
    for name in sorted(storage.list(SLOT_FOLDER)):
        try:
            Slot.from_bytes(storage.get(name), name)
        except ObjectMissingError:
            continue  # removed since it was listed
        except DamagedError:
            damaged.append(name)
    return damaged


def _likeliest_first(slots: Iterable[Slot], secret: str) -> list[Slot]:
    """A passphrase costs a tenth of a second to try; what looks like a recovery key is tried as one first."""
    is_recovery_key = looks_like_recovery_key(secret)
    return sorted(slots, key=lambda slot: (slot.kind == RECOVERY) is not is_recovery_key)


def unlock_meanwhile(storage: Storage, config: Config, secret: str) -> Future[Bundle]:
    """Begin ``unlock_slots`` on a thread: it is a tenth of a second, outside the interpreter's lock."""
    with_one_thread = ThreadPoolExecutor(1, thread_name_prefix="unlock")
    future = with_one_thread.submit(unlock_slots, storage, config, secret)
    with_one_thread.shutdown(wait=False)
    return future
