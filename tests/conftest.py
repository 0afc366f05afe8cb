"""What holds for all tests."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test reads or fills the cache of whoever runs it."""
    monkeypatch.setenv("STILLFRAME_CACHE", str(tmp_path / "stillframe-cache"))
