"""The bundle of secrets, and what a writer's share of it opens."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillframe.repository.blobs import BlobType
from stillframe.repository.credential import WriterCredential
from stillframe.repository.errors import (
    DamagedError,
    ReaderKeyNeededError,
    UnknownFeatureError,
    WrongKeyError,
)
from stillframe.repository.keys import Bundle, EpochKeys
from tests.repository.make import (
    BUNDLE,
    REPOSITORY_ID,
    WRITER,
    commit_disk,
    make_config,
    make_repository,
    noise,
    opened_again,
    seeded,
)


def changed_bundle(**changes: Any) -> bytes:
    document: dict[str, Any] = json.loads(BUNDLE.to_bytes())
    document["epochs"]["1"].update(changes)
    return json.dumps(document).encode()


def test_a_bundle_round_trips() -> None:
    assert Bundle.from_bytes(BUNDLE.to_bytes(), "test") == BUNDLE
    assert Bundle.from_bytes(WRITER.to_bytes(), "test") == WRITER


def test_a_bundle_shows_no_secret_when_it_is_printed() -> None:
    printed = repr(BUNDLE) + str(BUNDLE) + f"{BUNDLE.epochs}"
    keys = BUNDLE.keys_of(1, "test")
    assert keys.reader_private_key is not None
    for secret in (BUNDLE.id_key, keys.metadata_key, keys.reader_private_key):
        assert repr(secret) not in printed
        assert secret.hex() not in printed


def test_a_writer_holds_all_but_the_private_key() -> None:
    assert (BUNDLE.can_read, WRITER.can_read) == (True, False)
    assert WRITER.id_key == BUNDLE.id_key
    assert WRITER.keys_of(1, "test") == EpochKeys(
        BUNDLE.keys_of(1, "test").metadata_key, BUNDLE.keys_of(1, "test").reader_public_key, None
    )


def test_new_objects_use_the_highest_epoch_and_an_unknown_one_is_said() -> None:
    second = Bundle.generate(seeded("second")).keys_of(1, "test")
    rotated = Bundle(BUNDLE.id_key, {1: BUNDLE.keys_of(1, "test"), 2: second})
    assert rotated.epoch == 2
    assert Bundle.from_bytes(rotated.to_bytes(), "test") == rotated
    with pytest.raises(UnknownFeatureError, match="the object: uses key epoch 3"):
        rotated.keys_of(3, "the object")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b'{"id_key": "", "epochs": {}}',
        json.dumps({"id_key": "00" * 32, "epochs": {}}).encode(),
        json.dumps({"id_key": "00" * 31, "epochs": json.loads(BUNDLE.to_bytes())["epochs"]}).encode(),
        changed_bundle(metadata_key="00" * 33),
        changed_bundle(metadata_key=None),
        changed_bundle(reader_public_key="no hex"),
        changed_bundle(reader_private_key="00"),
    ],
)
def test_what_is_no_bundle_is_refused(data: bytes) -> None:
    with pytest.raises(DamagedError, match="the slot"):
        Bundle.from_bytes(data, "the slot")


@given(data=st.binary(max_size=100))
def test_random_bytes_are_no_bundle(data: bytes) -> None:
    with pytest.raises(DamagedError):
        Bundle.from_bytes(data, "the slot")


def test_a_writer_reads_the_log_and_the_tree_but_no_guest_data() -> None:
    repository = make_repository()
    block = noise(5000)
    point = commit_disk(repository, "a", [block, None])
    writer = opened_again(repository, bundle=WRITER)
    assert [known.point_id for known in writer.points()] == [point.point_id]
    root = point.disks[0].root
    assert root is not None
    reference = writer.read_node(root, 0).entries[0]
    assert isinstance(reference, bytes)
    with pytest.raises(ReaderKeyNeededError) as refused:
        writer.read_blob(reference, BlobType.DATA)
    assert refused.value.exit_code == 3
    assert bytes(repository.read_blob(reference, BlobType.DATA)) == block


def test_a_writer_adds_points_that_readers_read() -> None:
    repository = make_repository()
    writer = opened_again(repository, bundle=WRITER)
    point = commit_disk(writer, "a", [noise(5000)])
    repository.refresh()
    root = point.disks[0].root
    assert root is not None
    reference = repository.read_node(root, 0).entries[0]
    assert isinstance(reference, bytes)
    assert bytes(repository.read_blob(reference, BlobType.DATA)) == noise(5000)


def test_a_credential_file_holds_no_private_key_and_fits_one_repository() -> None:
    data = WriterCredential(REPOSITORY_ID, BUNDLE).to_bytes()
    private = BUNDLE.keys_of(1, "test").reader_private_key
    assert private is not None
    assert private.hex() not in data.decode()
    credential = WriterCredential.from_bytes(data, "host.key")
    assert credential.bundle_for(make_config(), "host.key") == WRITER
    with pytest.raises(WrongKeyError, match=r"host\.key"):
        WriterCredential("0" * 32, BUNDLE).bundle_for(make_config(), "host.key")


@given(data=st.binary(max_size=100))
def test_random_bytes_are_no_credential(data: bytes) -> None:
    with pytest.raises(DamagedError):
        WriterCredential.from_bytes(data, "host.key")
