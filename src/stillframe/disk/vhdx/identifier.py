"""File type identifier: the first 64 KiB ([MS-VHDX] 2.2.1)."""

from __future__ import annotations

from stillframe.disk.reader import RandomReader, read_bytes
from stillframe.disk.vhdx.errors import IdentifierError
from stillframe.disk.vhdx.layout import FIRST_FREE_BYTES

SIGNATURE = b"vhdxfile"
_CREATOR_BYTES = 512


def read_creator(reader: RandomReader) -> str:
    """Check that this is a VHDX file and tell who made it (informational, may be empty).

    Raises:
        IdentifierError: it is not one, or too short to be one.
    """
    if reader.size_bytes < FIRST_FREE_BYTES:
        raise IdentifierError(reader.name, reader.size_bytes, "the file ends within the VHDX header section")
    start = read_bytes(reader, 0, len(SIGNATURE) + _CREATOR_BYTES)
    if not start.startswith(SIGNATURE):
        raise IdentifierError(reader.name, 0, "not a VHDX file: the signature 'vhdxfile' is missing")
    creator = start[len(SIGNATURE) :].decode("utf-16-le", errors="replace")
    return creator.split("\0", 1)[0]


def encode_identifier(creator: str) -> bytes:
    return SIGNATURE + creator.encode("utf-16-le")[:_CREATOR_BYTES]
