"""The crash model loses what may be lost, all of it, and nothing else: expectations written by hand."""

from itertools import product

from tests.repository.crash.losses import Disk, Remains
from tests.repository.crash.operations import FOLDER, Entry, Operation, SyncFile, SyncFolder, Write

A = Entry(".", "a", 1)


def remains(*operations: Operation, limit: int = 1000) -> set[Remains]:
    disk = Disk()
    for operation in operations:
        disk.apply(operation)
    return set(disk.remains(limit))


def files(*operations: Operation, limit: int = 1000) -> set[frozenset[tuple[str, bytes]]]:
    return {state.files for state in remains(*operations, limit=limit)}


def contents(*operations: Operation) -> set[bytes | None]:
    """What ``a`` may hold; None: it may be missing."""
    return {dict(state).get("a") for state in files(*operations)}


def test_a_synced_file_in_a_synced_folder_is_safe() -> None:
    assert contents(A, Write(1, 0, b"xy"), SyncFile(1), SyncFolder(".")) == {b"xy"}


def test_without_the_sync_of_the_folder_the_name_may_be_lost_and_nothing_else() -> None:
    assert contents(A, Write(1, 0, b"xy"), SyncFile(1)) == {b"xy", None}


def test_without_the_sync_of_the_file_its_bytes_may_be_lost_with_or_without_its_length() -> None:
    assert contents(A, Write(1, 0, b"xy"), SyncFolder(".")) == {b"xy", b"", b"\0\0"}


def test_what_is_written_after_the_sync_is_not_covered() -> None:
    assert contents(A, SyncFolder("."), Write(1, 0, b"x"), SyncFile(1), Write(1, 1, b"y")) == {
        b"xy",
        b"x",
        b"x\0",
    }


def test_any_of_several_writes_may_be_lost() -> None:
    expected = {b"", b"x", b"x\0", b"\0y", b"xy", b"\0\0"}
    assert contents(A, SyncFolder("."), Write(1, 0, b"x"), Write(1, 1, b"y")) == expected


def test_the_last_write_may_be_torn_between_sectors() -> None:
    sectors = [bytes([value]) * 512 for value in (1, 2, 3)]
    none = bytes(512)
    seen = contents(A, SyncFolder("."), Write(1, 0, b"".join(sectors)))
    for kept in ([1, 0, 0], [1, 1, 0], [0, 1, 1], [0, 0, 1], [0, 0, 0], [1, 1, 1]):
        parts = (sector if keep else none for sector, keep in zip(sectors, kept, strict=True))
        assert b"".join(parts) in seen
    assert sectors[0] in seen
    assert sectors[0] + none + sectors[2] not in seen


def test_entries_are_lost_independently() -> None:
    operations: list[Operation] = [Entry(".", name, number) for number, name in enumerate("abc")]
    expected = {
        frozenset((name, b"") for name, keep in zip("abc", kept, strict=True) if keep)
        for kept in product([False, True], repeat=3)
    }
    assert files(*operations) == expected


def test_an_entry_may_have_any_value_since_its_last_sync() -> None:
    assert contents(A, SyncFolder("."), Entry(".", "a", None)) == {b"", None}
    assert contents(A, Entry(".", "a", None), SyncFolder(".")) == {None}
    both: list[Operation] = [
        A,
        Write(1, 0, b"x"),
        SyncFile(1),
        Entry(".", "a", None),
        Entry(".", "a", 2),
        Write(2, 0, b"y"),
        SyncFile(2),
    ]
    assert contents(*both) == {None, b"x", b"y"}


def test_a_folder_that_is_lost_takes_all_with_it() -> None:
    inside: list[Operation] = [
        Entry(".", "f", FOLDER),
        Entry("f", "g", FOLDER),
        Entry("f/g", "a", 1),
        SyncFolder("f"),
        SyncFolder("f/g"),
    ]
    assert remains(*inside, limit=100) == {
        Remains(frozenset(), frozenset(), False),
        Remains(frozenset({("f/g/a", b"")}), frozenset({"f", "f/g"}), False),
    }


def test_the_sync_of_a_folder_does_not_cover_those_below() -> None:
    inside: list[Operation] = [Entry(".", "f", FOLDER), Entry("f", "a", 1), SyncFolder(".")]
    assert files(*inside) == {frozenset(), frozenset({("f/a", b"")})}


def test_temporary_files_are_left_or_not_and_never_multiply() -> None:
    temporary: list[Operation] = [
        Entry(".", ".tmp", FOLDER),
        SyncFolder("."),
        *(Entry(".tmp", str(n), n) for n in range(50)),
    ]
    assert {state.has_temporary_files for state in remains(*temporary)} == {False, True}
    assert len(remains(*temporary)) == 2


def test_beyond_the_limit_few_losses_are_looked_at_near_all_and_near_none() -> None:
    operations: list[Operation] = [Entry(".", f"n{number}", number) for number in range(10)]
    sizes = {len(state) for state in files(*operations, limit=100)}
    assert sizes == {0, 1, 2, 8, 9, 10}
    assert len(files(*operations, limit=100)) == 2 * (1 + 10 + 45)
