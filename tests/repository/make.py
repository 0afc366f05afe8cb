"""Small repositories for tests: deterministic, quick (no passphrase is stretched), with a few blobs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count

from blake3 import blake3

from stillframe.disk.still import Geometry
from stillframe.repository.blobs import BlobType, Compressor, IdKeys
from stillframe.repository.config import CONFIG_NAME, Config
from stillframe.repository.draft import Draft
from stillframe.repository.keys import Bundle, Entropy
from stillframe.repository.knowledge import Knowledge
from stillframe.repository.log import Entry
from stillframe.repository.nodes import Node, NodeEntry, decode_node, encode_node
from stillframe.repository.operations import Steps, drive
from stillframe.repository.packs import PackBuilder, PackKind, SealedPack
from stillframe.repository.points import Consistency, PointDisk, RecoveryPoint
from stillframe.repository.repository import Repository
from stillframe.repository.storage.base import Storage
from stillframe.repository.tree import TreeBuilder
from tests.repository.storage.memory import MemoryStorage

BLOCK_BYTES = 64 << 10
FAN_OUT = 4
REPOSITORY_ID = "00112233445566778899aabbccddeeff"
MOMENT = datetime(2026, 11, 23, 14, 0, 0, 125000, UTC)


def seeded(seed: str = "entropy") -> Entropy:
    """Bytes that look random, never recur and are the same in every run."""
    counter = count()

    def entropy(length_bytes: int) -> bytes:
        return blake3(f"{seed} {next(counter)}".encode()).digest(length_bytes)

    return entropy


def noise(length_bytes: int, seed: object = 0) -> bytes:
    """Incompressible content."""
    return blake3(f"noise {seed}".encode()).digest(length_bytes)


BUNDLE = Bundle.generate(seeded("keys"))
WRITER = BUNDLE.without_reader_keys()
IDS = IdKeys(BUNDLE.id_key)


def make_config(fan_out: int = FAN_OUT, pack_bytes: int = 1 << 20) -> Config:
    return Config(REPOSITORY_ID, "2026-11-23T14:00:00.000Z", BLOCK_BYTES, fan_out, pack_bytes)


def make_repository(storage: Storage | None = None, *, fan_out: int = FAN_OUT, seed: str = "") -> Repository:
    """A repository without key slots, opened."""
    place = storage if storage is not None else MemoryStorage()
    config = make_config(fan_out)
    assert place.put_if_absent(CONFIG_NAME, config.to_bytes(BUNDLE))
    return Repository(place, Knowledge(config, BUNDLE, seeded(f"repository {seed}")))


def opened_again(repository: Repository, seed: str = "again", bundle: Bundle = BUNDLE) -> Repository:
    """What another process sees that opens the same repository now."""
    knowledge = Knowledge(repository.config, bundle, seeded(seed))
    other = Repository(repository.storage, knowledge)
    other.read_log()
    return other


def make_pack(
    blobs: Iterable[tuple[BlobType, bytes]],
    kind: PackKind = PackKind.DATA,
    *,
    bundle: Bundle = BUNDLE,
    seed: str = "pack",
    level: int | None = 1,
) -> SealedPack:
    """A pack of these blobs under their true ids."""
    builder = PackBuilder(kind, bundle, 1 << 20, seeded(seed))
    for blob_type, data in blobs:
        codec, coded = Compressor(level).encode(data)
        builder.add(IDS.id_of(blob_type, data), blob_type, codec, coded, len(data))
    return builder.seal()


def store_pack(
    repository: Repository, draft: Draft, blobs: Sequence[tuple[BlobType, bytes]], kind: PackKind
) -> SealedPack:
    """Put a pack of these blobs and count it to the draft."""
    seed = repository.knowledge.entropy(8).hex()
    pack = make_pack(blobs, kind, bundle=repository.knowledge.bundle, seed=seed)
    drive(draft.put_pack(pack), repository.storage)
    return pack


class NodeStore:
    """Nodes in memory, by id, for tests of trees and for ``store_disk``."""

    def __init__(self) -> None:
        self.nodes: dict[bytes, bytes] = {}
        self.reads = 0

    def store(self, height: int, entries: Sequence[NodeEntry]) -> bytes:
        data = encode_node(height, entries)
        node_id = IDS.id_of(BlobType.NODE, data)
        self.nodes[node_id] = data
        return node_id

    def read(self, node_id: bytes, height: int) -> Node:
        self.reads += 1
        return decode_node(self.nodes[node_id], height, node_id.hex()[:8])


def store_disk(repository: Repository, draft: Draft, blocks: Sequence[bytes | None], name: str) -> PointDisk:
    """Put blocks (None: zero) and their tree; the blocks' blobs are not looked up, always stored."""
    nodes = NodeStore()
    ids = repository.knowledge.ids
    builder = TreeBuilder(len(blocks), repository.config.fan_out, nodes.store)
    for block in blocks:
        builder.append(None if block is None else ids.id_of(BlobType.DATA, block))
    root = builder.finish()
    contents = [(BlobType.DATA, block) for block in dict.fromkeys(blocks) if block is not None]
    if contents:
        store_pack(repository, draft, contents, PackKind.DATA)
        store_pack(
            repository, draft, [(BlobType.NODE, node) for node in nodes.nodes.values()], PackKind.METADATA
        )
    return PointDisk(name, f"disk-{name}", Geometry(len(blocks) * BLOCK_BYTES), BLOCK_BYTES, root)


def make_point(name: str, disks: Sequence[PointDisk] = (), machine: str = "vm") -> RecoveryPoint:
    """``name`` becomes the point's id, padded."""
    return RecoveryPoint(
        name.encode().hex().ljust(16, "0")[:16],
        machine,
        MOMENT,
        Consistency.CRASH,
        "made by a test",
        "full",
        "first",
        None,
        tuple(disks),
    )


def commit_disk(repository: Repository, name: str, blocks: Sequence[bytes | None]) -> RecoveryPoint:
    """A recovery point of one disk, ``disk.raw``."""
    draft = repository.draft()
    disk = store_disk(repository, draft, blocks, "disk.raw")
    return repository.commit_point(draft, make_point(name, [disk]))


def append(repository: Repository, entry: Entry) -> int:
    """Add any entry to the log, without any check."""

    def build() -> Steps[Entry]:
        yield from ()
        return entry

    return drive(repository.knowledge.log.append(build), repository.storage)


def rewrite(
    repository: Repository,
    *,
    add: Sequence[str] = (),
    drop: Sequence[str] = (),
    delete: Sequence[str] = (),
    suspects: Sequence[str] = (),
    sweep: bool = False,
) -> int:
    """A rewrite entry, without any check; the objects themselves stay."""
    entry = {"add": add, "drop": drop, "delete": delete, "suspects": suspects, "sweep": sweep}
    return append(repository, {"kind": "rewrite", **entry})


def same_point(one: RecoveryPoint, other: RecoveryPoint) -> bool:
    """Equal but for the number that the log gave."""
    return replace(one, number=0) == replace(other, number=0)
