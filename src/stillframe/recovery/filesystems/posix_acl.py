"""POSIX access control lists: from the forms that ext and XFS keep on disk to the one that Linux shows.

Sources: Linux fs/ext4/acl.h (ext4_acl_header, version 1, short and full entries), fs/xfs/libxfs/xfs_format.h
(struct xfs_acl, big endian) and include/uapi/linux/posix_acl_xattr.h (version 2).
"""

from __future__ import annotations

import struct
from typing import Final

from stillframe.errors import CorruptInputError

_XATTR_VERSION: Final = 2
_EXT_VERSION: Final = 1
_NO_ID: Final = 0xFFFFFFFF
_WITH_ID: Final = {0x02, 0x08}  # ACL_USER, ACL_GROUP

Rule = tuple[int, int, int]  # tag, permissions, id


def from_ext(value: bytes) -> bytes:
    """An ext access list as the value of ``system.posix_acl_access`` or ``_default``."""
    if len(value) < 4 or struct.unpack_from("<I", value)[0] != _EXT_VERSION:
        raise CorruptInputError("an ext access list has an unknown version")
    rules: list[Rule] = []
    position = 4
    try:
        while position < len(value):
            tag, permissions = struct.unpack_from("<HH", value, position)
            position += 4
            identifier = _NO_ID
            if tag in _WITH_ID:
                (identifier,) = struct.unpack_from("<I", value, position)
                position += 4
            rules.append((tag, permissions, identifier))
    except struct.error as error:
        raise CorruptInputError("an ext access list ends within an entry") from error
    return _encoded(rules)


def from_xfs(value: bytes) -> bytes:
    """An XFS access list (``SGI_ACL_FILE``, ``SGI_ACL_DEFAULT``) as Linux shows it."""
    if len(value) < 4 or len(value) < 4 + 12 * struct.unpack_from(">I", value)[0]:
        raise CorruptInputError("an XFS access list ends within an entry")
    (count,) = struct.unpack_from(">I", value)
    stored = [struct.unpack_from(">IIHH", value, 4 + 12 * number) for number in range(count)]
    return _encoded(
        [
            (tag, permissions, identifier if tag in _WITH_ID else _NO_ID)
            for tag, identifier, permissions, _ in stored
        ]
    )


def _encoded(rules: list[Rule]) -> bytes:
    return struct.pack("<I", _XATTR_VERSION) + b"".join(struct.pack("<HHI", *rule) for rule in rules)
