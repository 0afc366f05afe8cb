"""The commands, each imported when it is called: to build all of them takes longer than most of them run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import Any, cast

import typer
from typer.core import TyperGroup

COMMANDS: Mapping[str, str] = {
    "repo": "app",
    "backup": "app",
    "points": "app",
    "restore": "app",
    "files": "app",
    "mount": "mount_disks",
    "disk": "app",
}
"""Name of a command, which is that of its module too: the group or function in it."""


class OnDemand(TyperGroup):
    """A group of all that ``COMMANDS`` names."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = cast("dict[str, Any]", _Commands(self.rich_markup_mode))


class _Commands(Mapping[str, Any]):
    """Command by name, made when it is asked for; the names are known before."""

    def __init__(self, markup: Any) -> None:
        self._markup = markup
        self._made: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._made:
            attribute = COMMANDS[name]
            self._made[name] = self._make(name, getattr(import_module(f"stillframe.cli.{name}"), attribute))
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)

    def _make(self, name: str, app: typer.Typer | Callable[..., None]) -> Any:
        holder = typer.Typer(add_completion=False, rich_markup_mode=self._markup)
        holder.callback()(lambda: None)  # so that it is a group, even of one command
        if isinstance(app, typer.Typer):
            holder.add_typer(app, name=name)
        else:
            holder.command(name)(app)
        return cast("Any", typer.main.get_command(holder)).commands[name]
