"""The state of a repository: its log, folded (format, section 8)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from stillframe.repository.entries import NO_PREVIOUS
from stillframe.repository.errors import DamagedError, UnknownFeatureError
from stillframe.repository.points import RecoveryPoint

UPLOAD_SURVIVES = 2
"""So many rewrites an unfinished run's upload lives through before it is garbage."""


@dataclass(frozen=True, slots=True)
class Window:
    """The head of a CDP window, and the blobs that it keeps alive."""

    head: Any
    blobs: tuple[bytes, ...]
    trees: tuple[tuple[bytes, int], ...]
    """Nodes and their heights; all that they reach lives."""

    @classmethod
    def from_json(cls, head: Any, blobs: list[str], trees: list[tuple[str, int]]) -> Window:
        return cls(
            head,
            tuple(bytes.fromhex(blob) for blob in blobs),
            tuple((bytes.fromhex(node), int(height)) for node, height in trees),
        )

    def to_json(self) -> tuple[Any, list[str], list[tuple[str, int]]]:
        return (
            self.head,
            [blob.hex() for blob in self.blobs],
            [(node.hex(), height) for node, height in self.trees],
        )


@dataclass
class State:
    """What holds after log entry ``number``."""

    number: int = 0
    last_hash: bytes = NO_PREVIOUS
    points: dict[str, RecoveryPoint] = field(default_factory=dict)
    segments: dict[str, None] = field(default_factory=dict)
    suspects: frozenset[str] = frozenset()
    uploads: dict[str, int] = field(default_factory=dict)
    tokens: dict[tuple[str, str], tuple[str | None, str]] = field(default_factory=dict)
    windows: dict[str, Window] = field(default_factory=dict)
    unknown: set[str] = field(default_factory=set)
    forgotten: int = 0

    def copy(self) -> State:
        """Another state that can be advanced on its own."""
        return replace(
            self,
            points=dict(self.points),
            segments=dict(self.segments),
            uploads=dict(self.uploads),
            tokens=dict(self.tokens),
            windows=dict(self.windows),
            unknown=set(self.unknown),
        )

    def apply(self, number: int, digest: bytes, entry: dict[str, Any]) -> None:
        """Advance by one entry.

        Raises:
            DamagedError: the entry does not follow from the one before, or makes no sense.
        """
        if number != self.number + 1 or entry.get("previous") != self.last_hash.hex():
            raise DamagedError(f"log entry {number}: does not follow the entry before it")
        change = _CHANGES.get(str(entry.get("kind")))
        try:
            if change is None:
                self.unknown.add(str(entry.get("kind")))
            else:
                change(self, number, entry)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DamagedError(f"log entry {number}: makes no sense ({error!r})") from error
        self.number, self.last_hash = number, digest

    def require_known(self, operation: str) -> None:
        """Refuse what could harm the objects of entries that this version does not understand.

        Raises:
            UnknownFeatureError: there are such entries.
        """
        if self.unknown:
            kinds = ", ".join(sorted(self.unknown))
            raise UnknownFeatureError(
                f"cannot {operation}: the log has entries of unknown kind ({kinds}), "
                "and what they keep alive cannot be known",
                hint="Use a newer version of Stillframe.",
            )

    def _add_segments(self, names: Any) -> None:
        self.segments.update(dict.fromkeys(_names(names)))

    def _point(self, number: int, entry: dict[str, Any]) -> None:
        point = RecoveryPoint.from_json(entry["point"], number)
        if point.point_id in self.points:
            raise ValueError(f"point {point.point_id} exists already")
        self._add_segments(entry["add"])
        self.points[point.point_id] = point

    def _forget(self, number: int, entry: dict[str, Any]) -> None:
        del number
        for point_id in _names(entry["points"]):
            if self.points.pop(point_id, None):
                self.forgotten += 1

    def _upload(self, number: int, entry: dict[str, Any]) -> None:
        del number
        self._add_segments(entry["add"])
        self.uploads.update(dict.fromkeys(entry["add"], 0))

    def _rewrite(self, number: int, entry: dict[str, Any]) -> None:
        del number
        _names(entry["delete"])
        for name in _names(entry["drop"]):
            del self.segments[name]
        self._add_segments(entry["add"])
        if entry["sweep"]:
            self.suspects = frozenset(_names(entry["suspects"]))
            survived = {name: count + 1 for name, count in self.uploads.items()}
            self.uploads = {name: count for name, count in survived.items() if count < UPLOAD_SURVIVES}

    def _token(self, number: int, entry: dict[str, Any]) -> None:
        del number
        self.tokens[entry["machine"], entry["disk"]] = (entry["token"], entry["point"])

    def _window(self, number: int, entry: dict[str, Any]) -> None:
        del number
        self._add_segments(entry["add"])
        if entry["head"] is None:
            self.windows.pop(entry["window"], None)
        else:
            window = Window.from_json(entry["head"], entry["blobs"], entry["trees"])
            self.windows[entry["window"]] = window

    def to_json(self) -> dict[str, Any]:
        """The document of a checkpoint."""
        return {
            "number": self.number,
            "last": self.last_hash.hex(),
            "points": [{**point.to_json(), "number": point.number} for point in self.points.values()],
            "segments": list(self.segments),
            "suspects": sorted(self.suspects),
            "uploads": [[name, survived] for name, survived in self.uploads.items()],
            "tokens": [[*where, *what] for where, what in self.tokens.items()],
            "windows": [[name, *window.to_json()] for name, window in self.windows.items()],
            "unknown": sorted(self.unknown),
            "forgotten": self.forgotten,
        }

    @classmethod
    def from_json(cls, document: dict[str, Any], name: str) -> State:
        try:
            points = [RecoveryPoint.from_json(point, point["number"]) for point in document["points"]]
            return cls(
                document["number"],
                bytes.fromhex(document["last"]),
                {point.point_id: point for point in points},
                dict.fromkeys(document["segments"]),
                frozenset(document["suspects"]),
                dict(document["uploads"]),
                {(machine, disk): (token, point) for machine, disk, token, point in document["tokens"]},
                {
                    name: Window.from_json(head, blobs, trees)
                    for name, head, blobs, trees in document["windows"]
                },
                set(document["unknown"]),
                document["forgotten"],
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DamagedError(f"{name}: makes no sense ({error!r})") from error


def _names(value: Any) -> Sequence[str]:
    """A list of texts, as an entry must have it."""
    if not isinstance(value, list | tuple) or not all(isinstance(name, str) for name in value):
        raise TypeError(f"{value!r} is no list of names")
    return value


_CHANGES = {
    "point": State._point,
    "forget": State._forget,
    "upload": State._upload,
    "rewrite": State._rewrite,
    "token": State._token,
    "window": State._window,
}
