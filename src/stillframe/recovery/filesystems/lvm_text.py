"""The text in which LVM2 keeps its metadata: nested sections of ``name = value``.

Grammar: lvm2, libdm/libdm-config.c. Read into plain dictionaries; everything about volumes is in ``lvm``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, TypeAlias

from stillframe.errors import CorruptInputError

Value: TypeAlias = "int | str | list[Value] | Section"
Section: TypeAlias = "dict[str, Value]"

_MAX_DEPTH: Final = 16
_TOKEN: Final = re.compile(
    r"""\s+ | \#[^\n]* | (?P<string>"(?:[^"\\]|\\.)*") | (?P<mark>[{}\[\]=,]) | (?P<word>[\w.+-]+)""",
    re.VERBOSE | re.ASCII,
)


def parse(text: str) -> Section:
    """The sections of a metadata text.

    Raises:
        CorruptInputError: it breaks the grammar, or nests deeper than LVM2 ever does.
    """
    parser = _Parser(_tokens(text))
    found = parser.section(depth=0)
    parser.require_end()
    return found


def _tokens(text: str) -> Iterator[str]:
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise CorruptInputError(f"the LVM2 metadata have an unexpected character at {position}")
        position = match.end()
        if match.lastgroup:
            yield match[match.lastgroup]
    yield ""


class _Parser:
    """Recursive descent over the tokens; the last token is empty."""

    def __init__(self, tokens: Iterator[str]) -> None:
        self._tokens = tokens
        self._token = next(tokens)

    def section(self, depth: int) -> Section:
        if depth > _MAX_DEPTH:
            raise CorruptInputError(f"the LVM2 metadata are nested deeper than {_MAX_DEPTH}")
        found: Section = {}
        while self._token not in {"", "}"}:
            name = self._take()
            if self._token == "{":  # noqa: S105 - a token of the grammar, not a secret
                self._take()
                found[name] = self.section(depth + 1)
                self._expect("}")
            else:
                self._expect("=")
                found[name] = self._value()
        return found

    def require_end(self) -> None:
        if self._token:
            raise CorruptInputError(f"the LVM2 metadata go on with {self._token!r} after their end")

    def _value(self) -> Value:
        if self._token != "[":  # noqa: S105
            return _scalar(self._take())
        self._take()
        values: list[Value] = []
        while self._token not in {"", "]"}:
            values.append(_scalar(self._take()))
            if self._token == ",":  # noqa: S105
                self._take()
        self._expect("]")
        return values

    def _take(self) -> str:
        taken = self._token
        if not taken:
            raise CorruptInputError("the LVM2 metadata end too early")
        self._token = next(self._tokens)
        return taken

    def _expect(self, mark: str) -> None:
        if self._take() != mark:
            raise CorruptInputError(f"the LVM2 metadata lack a {mark!r}")


def _scalar(token: str) -> Value:
    if token.startswith('"'):
        return re.sub(r"\\(.)", r"\1", token[1:-1])
    return int(token) if re.fullmatch(r"-?\d{1,20}", token) else token
