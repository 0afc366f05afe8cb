"""How recovery points, their disks and disk images are named on the command line."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stillframe.errors import UsageError

if TYPE_CHECKING:
    from stillframe.protection.image import ImageSpec
    from stillframe.repository.points import PointDisk, RecoveryPoint
    from stillframe.repository.repository import Repository

MAX_NAME_BYTES = 255
"""Of a machine or a disk: what a file's name may have, since `mount` and `restore` make files of them."""

POINT_HELP = "MACHINE@latest, MACHINE@2026-11-23T14:00, or the beginning of an id."
Point = Annotated[str, typer.Argument(metavar="POINT", help=POINT_HELP, show_default=False)]

# A time has colons of its own: the colon that ends a point is the first one after a whole time.
_TIME = r"\d{4}-?\d{2}-?\d{2}(?:[T ]\d{2}(?::?\d{2}(?::?\d{2}(?:[.,]\d+)?)?)?(?:Z|[+-]\d{2}(?::?\d{2})?)?)?"
_POINT_AND_REST = re.compile(
    rf"(?P<point>.+?@(?:latest|{_TIME})|[0-9A-Fa-f]{{4,16}})(?::(?P<rest>.*))?", re.S
)


def split_point(text: str) -> tuple[str, str] | None:
    """``POINT:REST`` as point and rest (empty without a colon); None if it does not begin with a point."""
    match = _POINT_AND_REST.fullmatch(text)
    return (match["point"], match["rest"] or "") if match else None


def resolve_point(repository: Repository, text: str) -> RecoveryPoint:
    """The recovery point that ``text`` names, times without a zone being local."""
    from stillframe.repository.pointspec import find_point

    return find_point(repository.points(), text)


def resolve_disk(point: RecoveryPoint, name: str) -> PointDisk:
    """The disk of a point by name.

    Raises:
        UsageError: the point has none of that name.
    """
    disk = point.disk(name)
    if disk is None:
        names = ", ".join(disk.name for disk in point.disks)
        raise UsageError(f"point {point.point_id} has no disk {name!r}", hint=f"Disks: {names}")
    return disk


def image_specs(texts: Sequence[str]) -> list[ImageSpec]:
    """Images given as ``FILE`` or ``ALIAS=FILE``; without an alias a disk is called as its file.

    Raises:
        UsageError: two disks would have one name, or an alias cannot be a name.
    """
    specs = [_image_spec(text) for text in texts]
    for spec in specs:
        alike = [other.path for other in specs if other.name == spec.name]
        if len(alike) > 1:
            raise UsageError(
                f"two disks would be called {spec.name!r}: {alike[0]} and {alike[1]}",
                hint=f"Give one another name, for example: second-{spec.name}={alike[1]}",
            )
    return specs


def _image_spec(text: str) -> ImageSpec:
    """An alias has no slash, so a file whose path holds ``=`` is written with its folder: ``./a=b.vhdx``."""
    from stillframe.protection.image import ImageSpec

    alias, equals, file = text.partition("=")
    if not equals or "/" in alias:
        return ImageSpec(Path(text), check_name("disk", Path(text).name))
    return ImageSpec(Path(file), check_name("disk", alias))


def check_name(what: str, name: str) -> str:
    """The name itself, if it can be that of a machine or a disk.

    Raises:
        UsageError: it is empty or too long, has characters that cannot be shown, spaces around it, or means a
            folder.
    """
    if len(name.encode(errors="replace")) > MAX_NAME_BYTES:
        raise UsageError(f"{name[:20] + '...'!r} is too long for a {what}: at most {MAX_NAME_BYTES} bytes")
    if not name or not name.isprintable() or name != name.strip() or name in (".", ".."):
        raise UsageError(f"{name!r} cannot be the name of a {what}")
    return name
