"""What holds for all tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

# A machine under load is no defect.
settings.register_profile("stillframe", deadline=None)
settings.load_profile("stillframe")


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test reads or fills the cache of whoever runs it."""
    monkeypatch.setenv("STILLFRAME_CACHE", str(tmp_path / "stillframe-cache"))
