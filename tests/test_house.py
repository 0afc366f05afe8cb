"""The house itself: what it promises in its documents, settings and scripts is so."""

from __future__ import annotations

import ast
import importlib
import os
import pkgutil
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import stillframe
from stillframe.cli.main import app
from stillframe.errors import StillframeError

ROOT = Path(__file__).resolve().parent.parent
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())

# Written in two parts, so that this file does not name them either.
REGISTRY_HOSTS = tuple(
    first + rest
    for first, rest in (
        ("pypi", ".org"),
        ("python", "hosted.org"),
        ("npm", "js.org"),
        ("npm", "js.com"),
        ("crates", ".io"),
        ("deb.", "debian.org"),
    )
)


def tracked(pattern: str) -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", pattern],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def test_no_package_registry_is_named() -> None:
    named = [
        f"{path.relative_to(ROOT)} names {host}"
        for path in tracked("*")
        for host in REGISTRY_HOSTS
        if host.encode() in path.read_bytes()
    ]
    assert not named


def test_every_module_says_what_it_is_for() -> None:
    modules = [path for path in tracked("*.py") if path.relative_to(ROOT).parts[0] != "tests"]
    assert len(modules) > 100
    silent = [path for path in modules if not ast.get_docstring(ast.parse(path.read_text()))]
    assert [str(path.relative_to(ROOT)) for path in silent] == []


def test_every_room_has_its_place_in_the_layers() -> None:
    (layers,) = (
        contract["layers"]
        for contract in PROJECT["tool"]["importlinter"]["contracts"]
        if contract["type"] == "layers"
    )
    placed = {room.strip() for layer in layers for room in layer.split("|")}
    rooms = {f"stillframe.{module.name}" for module in pkgutil.iter_modules(stillframe.__path__)}
    assert rooms == placed


# ---------------------------------------------------------------------------------------------------- make


def make(*arguments: str) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    done = subprocess.run(
        ["make", "--no-print-directory", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def targets() -> set[str]:
    return set(re.findall(r"^\.PHONY: (\S+)", (ROOT / "Makefile").read_text(), re.MULTILINE))


def test_make_help_lists_every_target() -> None:
    listed = re.sub(r"\x1b\[\d*m", "", make("help")).splitlines()
    assert {line.split()[0] for line in listed} == targets()
    assert all(len(line.split()) > 2 for line in listed), "a target without a word about it"


def test_make_test_runs_the_whole_gate() -> None:
    planned = make("--dry-run", "test")
    for program in ("ruff check", "ruff format --check", "mypy", "lint-imports", "debian-packages.sh test"):
        assert program in planned, program
    assert '-m "not integration and not soak"' in planned
    assert '-m "integration and not soak"' in planned


def test_the_gate_runs_make_test() -> None:
    script = (ROOT / ".ci/run").read_text()
    assert script.rstrip().endswith("make test")
    assert "CI=${CI:-true}" in script, "a tool that is missing in the gate has to fail the tests that need it"


@pytest.mark.parametrize("script", [*tracked("*.sh"), ROOT / ".ci/run"], ids=lambda path: path.name)
def test_scripts_are_executable_and_stop_at_errors(script: Path) -> None:
    if script.read_text().startswith("#!/usr/bin/env bash"):
        assert os.access(script, os.X_OK)
        assert "set -euo pipefail" in script.read_text()
        subprocess.run(["bash", "-n", script], check=True)


def test_pre_commit_runs_local_hooks_only() -> None:
    config = ROOT / ".pre-commit-config.yaml"
    assert set(re.findall(r"repo: (\S+)", config.read_text())) == {"local"}
    subprocess.run([sys.executable, "-m", "pre_commit", "validate-config", config], check=True)


# ----------------------------------------------------------------------------------------------- lock file


def locked() -> dict[str, str]:
    pins = re.findall(
        r"^([\w.-]+)(?:\[[\w,-]+\])?==(\S+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE
    )
    return {canonicalize_name(name): version for name, version in pins}


def requirements() -> Iterator[Requirement]:
    project = PROJECT["project"]
    extras = [each for extra in project["optional-dependencies"].values() for each in extra]
    for text in (*project["dependencies"], *extras, *PROJECT["dependency-groups"]["dev"]):
        yield Requirement(text)


def test_the_lock_file_has_what_the_project_asks_for() -> None:
    pins = locked()
    for requirement in requirements():
        version = pins.get(canonicalize_name(requirement.name))
        assert version, f"{requirement.name} is not in requirements.lock: run make lock"
        assert requirement.specifier.contains(version), f"{requirement} but {version}: run make lock"


def test_everything_locked_has_a_hash() -> None:
    text = (ROOT / "requirements.lock").read_text()
    entries = re.split(r"^(?=[\w])", text, flags=re.MULTILINE)[1:]
    assert len(entries) >= len(locked())
    assert [entry.splitlines()[0] for entry in entries if "--hash=sha256:" not in entry] == []


def test_the_version_is_one() -> None:
    assert stillframe.__version__ == PROJECT["project"]["version"]


# --------------------------------------------------------------------------------------------- documents


def documents() -> list[Path]:
    return tracked("*.md")


def prose(path: Path) -> str:
    """Without its code blocks."""
    return re.sub(r"^```.*?^```", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)


def anchors(path: Path) -> set[str]:
    """What headings are called in links: lower case, spaces to hyphens, other signs left out."""
    headings = re.findall(r"^#+ (.+)$", prose(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_link_is_broken(document: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(document)):
        if target.startswith(("https://", "mailto:")):
            continue
        file, _, anchor = target.partition("#")
        found = (document.parent / file) if file else document
        assert found.exists(), f"{target}: there is no such file"
        assert not anchor or anchor in anchors(found), f"{target}: there is no such heading"


def test_decisions_are_short_and_listed() -> None:
    folder = ROOT / "docs/decisions"
    pages = sorted(folder.glob("[0-9]*.md"))
    index = (folder / "README.md").read_text()
    assert [page.name[:4] for page in pages] == [f"{number:04}" for number in range(1, len(pages) + 1)]
    for page in pages:
        text = page.read_text()
        assert f"]({page.name})" in index
        assert len(text.splitlines()) <= 40, page.name
        assert re.findall(r"^## (.+)$", text, re.MULTILINE) == ["Context", "Decision", "Consequences"]


def command_lines(document: Path) -> Iterator[str]:
    """What a document tells its reader to run: lines of code blocks behind a prompt, and code within text."""
    text = document.read_text()
    for block in re.findall(r"^```(?:console|sh)?\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        for line in block.splitlines():
            if line.startswith("$ "):
                yield from re.split(r" (?:\||&&|>) ", re.sub(r"(^|\s)#.*", "", line[2:]))
    for code in re.findall(r"`([^`\n]+)`", prose(document)):
        yield from re.split(r" (?:\||&&|>) ", code)


@pytest.mark.parametrize("document", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_in_documents_exist(document: Path) -> None:
    for line in command_lines(document):
        complaint = wrong_with(line)
        assert complaint is None, f"{line!r}: {complaint}"


def test_commands_in_hints_exist() -> None:
    hints = re.compile(r"(?:Run|See|Mend it): (stillframe [^\"{]+)")
    found = [hint for path in tracked("src/*.py") for hint in hints.findall(path.read_text())]
    assert found
    for hint in found:
        complaint = wrong_with(hint)
        assert complaint is None, f"{hint!r}: {complaint}"


def wrong_with(line: str) -> str | None:
    """Why a command line cannot be run; None if it can, or is none of ours."""
    words = shlex.split(line.replace("...", "")) if line.count("'") % 2 == 0 else line.split()
    if words[:1] == ["make"]:
        unknown = {word for word in words[1:] if word.islower()} - targets()
        return f"make has no {unknown}" if unknown else None
    if words[:1] and Path(words[0]).name == "stillframe":
        return wrong_with_words(words[1:], typer.main.get_command(app))
    return None


def wrong_with_words(words: list[str], command: Any) -> str | None:
    options: set[str] = {"--help"}
    while words and words[0].islower() and not words[0].startswith("-") and subcommands(command):
        if words[0] not in subcommands(command):
            return f"there is no command {words[0]}"
        command = subcommands(command)[words.pop(0)]
    if "list" in subcommands(command):  # `stillframe points` alone lists
        options |= options_of(subcommands(command)["list"])
    asked = {word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word, re.IGNORECASE)}
    unknown = asked - options - options_of(command)
    return f"there is no option {sorted(unknown)}" if unknown else None


def subcommands(command: Any) -> dict[str, Any]:
    """Of a group; a command has none."""
    return getattr(command, "commands", {})


def options_of(command: Any) -> set[str]:
    return {option for parameter in command.params for option in parameter.opts}


@pytest.mark.parametrize(
    ("line", "good"),
    [
        ("stillframe points show web@latest --json", True),
        ("stillframe points --json", True),
        ("stillframe disk info x.vhdx --yaml", False),
        ("stillframe repo destroy", False),
        ("make test", True),
        ("make money", False),
    ],
)
def test_a_wrong_command_line_is_noticed(line: str, good: bool) -> None:
    assert (wrong_with(line) is None) == good


def test_the_readme_explains_every_exit_code() -> None:
    for module in pkgutil.walk_packages(stillframe.__path__, "stillframe."):
        importlib.import_module(module.name)
    section = (ROOT / "README.md").read_text().split("## Exit codes")[1].split("\n## ")[0]
    explained = {int(code) for code in re.findall(r"(?:^|· |\n)(\d+) ", section)}
    assert {error.exit_code for error in all_errors(StillframeError)} <= explained


def all_errors(error: type[StillframeError]) -> Iterator[type[StillframeError]]:
    yield error
    for derived in error.__subclasses__():
        yield from all_errors(derived)
