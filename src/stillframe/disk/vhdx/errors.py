"""What can be wrong with a VHDX file, by the structure in which it shows."""

from __future__ import annotations

from stillframe.errors import CorruptInputError, UnsupportedError


class CorruptVhdxError(CorruptInputError):
    """A VHDX file breaks the rules of its format; the message names file, offset and rule."""

    def __init__(self, file: str, offset_bytes: int, what: str, *, hint: str = "") -> None:
        super().__init__(f"{file}: at offset {offset_bytes} (0x{offset_bytes:X}): {what}", hint=hint)
        self.file = file
        self.offset_bytes = offset_bytes


class IdentifierError(CorruptVhdxError):
    """The file does not begin like a VHDX file."""


class HeaderError(CorruptVhdxError):
    """Neither header can be used, or the current one contradicts itself."""


class LogError(CorruptVhdxError):
    """The log must be replayed, and cannot be."""


class RegionTableError(CorruptVhdxError):
    """Both region tables are unusable, or name impossible regions."""


class MetadataError(CorruptVhdxError):
    """The metadata table or one of its items is missing or impossible."""


class BlockMapError(CorruptVhdxError):
    """An entry of the block allocation table is impossible."""


class LocatorError(CorruptVhdxError):
    """The parent locator cannot be understood."""


class WrongParentError(CorruptInputError):
    """The parent was found, but it is not the disk that the child was made from."""


class UnsupportedVhdxError(UnsupportedError):
    """The file asks for a feature that this reader does not know, or for more than it allows."""
