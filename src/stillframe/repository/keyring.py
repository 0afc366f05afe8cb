"""Adding, changing and removing the ways to unlock a repository.

A slot is made durable before another is removed, so that no crash leaves a repository that nothing opens.
Changing slots does not change the keys in them: who has seen the keys keeps them.
"""

from __future__ import annotations

from datetime import UTC, datetime

from stillframe.errors import UsageError
from stillframe.repository.config import Config, read_config, verify_config
from stillframe.repository.errors import ReaderKeyNeededError
from stillframe.repository.keys import Bundle
from stillframe.repository.operations import drive, put_own
from stillframe.repository.points import format_time
from stillframe.repository.slots import PASSPHRASE, Slot, seal_with_passphrase, seal_with_recovery_key
from stillframe.repository.storage.base import Storage
from stillframe.repository.unlocking import load_config, open_a_slot, read_slots


def add_passphrase(storage: Storage, config: Config, bundle: Bundle, passphrase: str, label: str) -> Slot:
    """A further passphrase.

    Raises:
        ReaderKeyNeededError: ``bundle`` is a writer's, and what it lacks cannot be given on.
    """
    _require_all_keys(bundle)
    slot = seal_with_passphrase(bundle, config.repository_id, passphrase, label=label, created=_now())
    return _store(storage, slot)


def add_recovery_key(storage: Storage, config: Config, bundle: Bundle, label: str) -> tuple[Slot, str]:
    """A further recovery key, as it is to be printed; raises as ``add_passphrase``."""
    _require_all_keys(bundle)
    slot, printed = seal_with_recovery_key(bundle, config.repository_id, label=label, created=_now())
    return _store(storage, slot), printed


def open_passphrase_slot(storage: Storage, passphrase: str) -> tuple[Config, Slot, Bundle]:
    """The slot that a passphrase opens, and what is needed to put another in its place.

    Raises:
        WrongKeyError: it opens none.
        UsageError: it is a recovery key.
    """
    config_bytes = load_config(storage)
    config = read_config(config_bytes)
    slot, bundle = open_a_slot(storage, config, passphrase)
    verify_config(config_bytes, bundle)
    if slot.kind != PASSPHRASE:
        raise UsageError(
            "this is the recovery key, which is printed and not chosen",
            hint="Add a passphrase with `stillframe repo key add`, then remove the one you lost.",
        )
    return config, slot, bundle


def replace_passphrase(storage: Storage, config: Config, slot: Slot, bundle: Bundle, new: str) -> Slot:
    """Put a new passphrase in the place of a slot, under the same label; the new slot."""
    replacement = add_passphrase(storage, config, bundle, new, slot.label)
    storage.delete(slot.object_name)
    return replacement


def remove_slot(storage: Storage, config: Config, bundle: Bundle, slot_id: str) -> Slot:
    """Remove the slot whose id begins with ``slot_id``.

    Raises:
        UsageError: there is none, there are several, or it is the last.
        ReaderKeyNeededError: ``bundle`` is a writer's.
    """
    _require_all_keys(bundle)
    slots = read_slots(storage, config)
    chosen = [slot for slot in slots if slot_id and slot.slot_id.startswith(slot_id)]
    if len(chosen) != 1:
        problem = "several slots begin so" if chosen else "there is no such slot"
        raise UsageError(f"{slot_id!r}: {problem}", hint="Look at `stillframe repo key list`.")
    if len(slots) == 1:
        raise UsageError(
            f"{slot_id}: is the last slot; without it nothing would open the repository again",
            hint="Add another with `stillframe repo key add` first.",
        )
    storage.delete(chosen[0].object_name)
    return chosen[0]


def _store(storage: Storage, slot: Slot) -> Slot:
    created = drive(put_own(slot.object_name, slot.to_bytes()), storage)
    assert created, f"{slot.object_name} exists, though its id is fresh"
    return slot


def _require_all_keys(bundle: Bundle) -> None:
    if not bundle.can_read:
        raise ReaderKeyNeededError(
            "a writer credential cannot manage keys", hint="Unlock with a passphrase or the recovery key."
        )


def _now() -> str:
    return format_time(datetime.now(UTC))
