#!/usr/bin/env python3
"""Restore a disk from a Stillframe repository in a folder, with nothing but docs/repository-format.md.

No line of the package is imported: this is the proof that the format document is complete, and a last resort.
STILLFRAME_PASSPHRASE is the passphrase or the recovery key. Without POINT DISK OUT it lists what there is.
"""

import base64
import json
import os
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

HPKE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
DATA, NODE = 1, 2


def derive(context: str, key: bytes) -> bytes:
    return blake3(key, derive_key_context="stillframe 1 " + context).digest()


def wrapping_key(kdf: dict[str, Any], secret: str) -> bytes:
    """Section 3; the check characters of a recovery key are left to the seal, which knows as well."""
    salt = bytes.fromhex(kdf["salt"])
    if kdf["name"] == "blake3":
        return derive("recovery slot", base64.b32decode(secret.upper().replace("-", ""))[:32] + salt)
    cost = {"iterations": kdf["iterations"], "lanes": kdf["lanes"], "memory_cost": kdf["memory_kib"]}
    return Argon2id(salt=salt, length=32, **cost).derive(secret.encode())


class Repository:
    def __init__(self, folder: Path, secret: str) -> None:
        self.folder = folder
        line, seal, _ = (folder / "config").read_bytes().split(b"\n")
        self.config = json.loads(line)
        assert self.config["format"] == "stillframe 1", "another format"
        assert not self.config["features"]["read"], "a feature that this reader does not know"
        self.repository_id = bytes.fromhex(self.config["repository_id"])
        self.bundle = self.unlock(secret)
        assert blake3(line, key=self.key("config", 1)).hexdigest() == seal.decode(), "config was changed"
        self.points: dict[str, Any] = {}
        self.rows: dict[bytes, tuple[str, int, int, int, int]] = {}
        for segment in self.read_log():
            self.read_segment((folder / segment).read_bytes())

    def unlock(self, secret: str) -> Any:
        """Section 3: the bundle out of the first slot of this repository that the secret opens."""
        for path in sorted((self.folder / "keys").iterdir()):
            slot = json.loads(path.read_bytes())
            sealed = bytes.fromhex(slot["sealed"])
            aad = b"stillframe 1 slot" + self.repository_id + bytes.fromhex(slot["slot"])
            try:
                cipher = AESGCM(wrapping_key(slot["kdf"], secret))
                return json.loads(cipher.decrypt(sealed[:12], sealed[12:], aad))
            except (InvalidTag, ValueError):
                continue
        sys.exit("the passphrase or recovery key is wrong")

    def key(self, purpose: str, epoch: int, salt: bytes = b"") -> bytes:
        return derive(purpose, bytes.fromhex(self.bundle["epochs"][str(epoch)]["metadata_key"]) + salt)

    def read_log(self) -> dict[str, None]:
        """Section 8: live points and segments from entries 1, 2, ... until one is not there."""
        segments: dict[str, None] = {}
        previous, number = bytes(32), 1
        while (path := self.folder / f"log/{number // 1000:08}/{number:020}").exists():
            data = path.read_bytes()
            epoch, nonce = struct.unpack_from("<8xH2x12s", data)
            aad = data[:24] + self.repository_id + struct.pack("<Q", number)
            plain = AESGCM(self.key("log", epoch)).decrypt(nonce, data[24:], aad)
            entry = json.loads(zstd.decompress(plain))
            assert entry["previous"] == previous.hex(), f"log entry {number} was exchanged"
            if entry["kind"] == "point":
                self.points[entry["point"]["id"]] = entry["point"]
            for point in entry["points"] if entry["kind"] == "forget" else []:
                self.points.pop(point, None)
            segments.update(dict.fromkeys(entry.get("add", [])))
            for name in entry["drop"] if entry["kind"] == "rewrite" else []:
                del segments[name]
            previous, number = blake3(data).digest(), number + 1
        return segments

    def read_segment(self, data: bytes) -> None:
        """Section 6."""
        epoch, salt = struct.unpack_from("<8xH6x32s", data)
        payload = AESGCM(self.key("index", epoch, salt)).decrypt(bytes(12), data[48:], data[:48])
        packs, rows = struct.unpack_from("<II", payload)
        table = struct.unpack_from("<" + "32s" * packs + f"{packs}Q{packs}B", payload, 8)
        named = zip(table[:packs], table[2 * packs :], strict=True)
        names = [f"{['data', 'meta'][kind - 1]}/{pack.hex()[:2]}/{pack.hex()}" for pack, kind in named]
        columns = struct.unpack_from("<" + "32s" * rows + f"{4 * rows}I{2 * rows}B", payload, 8 + 41 * packs)
        for row in range(rows):
            blob_id, pack, offset, stored, _, kind, codec = columns[row::rows]
            self.rows[blob_id] = names[pack], offset, stored, kind, codec

    def blob(self, blob_id: bytes, kind: int) -> bytes:
        """Section 5."""
        name, offset, stored_bytes, _, codec = self.rows[blob_id]
        with (self.folder / name).open("rb") as file:
            prefix = file.read(128)
            file.seek(offset)
            stored = file.read(stored_bytes)
        epoch, salt = struct.unpack_from("<10xH4x32s", prefix)
        key = self.key("metadata pack", epoch, salt)
        if kind == DATA:
            private = bytes.fromhex(self.bundle["epochs"][str(epoch)]["reader_private_key"])
            info = b"stillframe 1 pack key" + prefix[:48]
            key = HPKE.decrypt(prefix[48:], X25519PrivateKey.from_private_bytes(private), info=info)
        aad = salt + bytes((kind, codec)) + blob_id
        data = AESGCM(key).decrypt(offset.to_bytes(12, "little"), stored, aad)
        data = zstd.decompress(data) if codec == 1 else data
        id_key = derive({DATA: "id data", NODE: "id node"}[kind], bytes.fromhex(self.bundle["id_key"]))
        assert blake3(data, key=id_key).digest() == blob_id, f"{name} holds a wrong blob"
        return data

    def blocks(self, root: bytes, height: int, first: int) -> Iterator[tuple[int, bytes]]:
        """Section 7: number and bytes of every block below a node that is not zero."""
        node = self.blob(root, NODE)
        position = 4
        for child in range(struct.unpack_from("<H", node, 2)[0]):
            kind, number = node[position], first + child * self.config["fan_out"] ** height
            reference = node[position + 1 : position + 33]
            if kind == 1 and height:
                yield from self.blocks(reference, height - 1, number)
            elif kind == 1:
                yield number, self.blob(reference, DATA)
            elif kind == 2:
                position += 1
                pieces = position + (34 if node[position] else 2)
                yield number, self.pieced_block(node[position:pieces], node[pieces:])
                position = pieces + 44 * node[pieces - 1] - 1
            position += 33 if kind == 1 else 1

    def pieced_block(self, head: bytes, pieces: bytes) -> bytes:
        block = bytearray(self.blob(head[1:33], DATA) if head[0] else b"")
        block.extend(bytes(self.config["block_bytes"] - len(block)))
        for number in range(head[-1]):
            offset, length, start, blob_id = struct.unpack_from("<III32s", pieces, 44 * number)
            piece = self.blob(blob_id, DATA)[start : start + length] if any(blob_id) else b""
            block[offset : offset + length] = piece.ljust(length, b"\0")
        return bytes(block)

    def restore(self, disk: dict[str, Any], out: Path) -> None:
        size_bytes, block_bytes = disk["size_bytes"], disk["block_bytes"]
        height = 0
        while self.config["fan_out"] ** (height + 1) * block_bytes < size_bytes:
            height += 1
        with out.open("xb") as file:
            file.truncate(size_bytes)
            for number, data in self.blocks(bytes.fromhex(disk["root"]), height, 0) if disk["root"] else []:
                file.seek(number * block_bytes)
                file.write(data[: size_bytes - number * block_bytes])


def main(folder: str, point_id: str = "", disk_name: str = "", out: str = "") -> None:
    repository = Repository(Path(folder), os.environ["STILLFRAME_PASSPHRASE"])
    disks = {
        (point["id"], disk["name"]): disk for point in repository.points.values() for disk in point["disks"]
    }
    if not out:
        for (point, name), disk in disks.items():
            print(point, repository.points[point]["time"], name, disk["size_bytes"])
    elif (point_id, disk_name) in disks:
        repository.restore(disks[point_id, disk_name], Path(out))
    else:
        sys.exit(f"there is no disk {disk_name} in a point {point_id}")


if __name__ == "__main__":
    if len(sys.argv) not in (2, 5):
        sys.exit(f"usage: {sys.argv[0]} REPO [POINT DISK OUT]")
    main(*sys.argv[1:])
