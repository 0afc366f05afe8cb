"""What tests need from the machine: present, or skipped with the reason (a failure under CI=true)."""

from __future__ import annotations

import os
import shutil

import pytest


def need(program: str) -> str:
    """The path of a program. Missing: skip, or fail where the gate promises that it is there."""
    path = shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")
    if path:
        return path
    reason = f"{program} is not installed"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def need_root() -> None:
    """Skip where the test cannot run as a plain user."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
