"""The disks of real hypervisors, unpacked once per test session."""

from __future__ import annotations

import bz2
import gzip
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.disk.vhdx.reading import close_all

DISKS = Path(__file__).parents[2] / "data" / "disks"
_PIECE = 1 << 20


@pytest.fixture(autouse=True)
def _nothing_stays_open() -> Iterator[None]:
    yield
    close_all()


@pytest.fixture(scope="session")
def real_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Path]]:
    folder = tmp_path_factory.mktemp("disks")

    def unpacked(name: str) -> Path:
        path = folder / name
        if not path.exists():
            _unpack(next(DISKS.glob(f"{name}.*")), path)
        return path

    yield unpacked
    shutil.rmtree(folder)


def _unpack(packed: Path, path: Path) -> None:
    """Keeping holes: most of these disks is zero."""
    opener = bz2.open if packed.suffix == ".bz2" else gzip.open
    with opener(packed) as source, path.open("wb") as target:
        while piece := source.read(_PIECE):
            if piece.count(0) < len(piece):
                target.write(piece)
            else:
                target.seek(len(piece), 1)
        target.truncate()
