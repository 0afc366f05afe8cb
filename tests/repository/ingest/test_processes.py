"""Real processes, really interrupted and killed; and how much memory one takes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from stillframe.progress import NoProgress
from stillframe.repository import slots
from stillframe.repository.checking.check import check
from stillframe.repository.checking.scrub import scrub
from stillframe.repository.collection import collect
from stillframe.repository.repository import Repository, create_repository, open_repository
from stillframe.repository.storage.local import LocalStorage
from stillframe.repository.unlocking import unlock_slots
from tests.repository.backups import contents_of
from tests.repository.make import noise

pytestmark = pytest.mark.integration

MIB = 1 << 20
PASSPHRASE = "correct horse"

_SLOWLY = """
import os, sys, time
from stillframe.cli.main import main
from stillframe.repository.ingest import run
from stillframe.repository.storage.local import LocalStorage
put = LocalStorage.put_if_absent
def slow(self, name, data):
    time.sleep({delay_s})
    return put(self, name, data)
LocalStorage.put_if_absent = slow
os.cpu_count = lambda: {workers}
run.PACKS_PER_UPLOAD = {packs_per_upload}
try:
    main()
finally:
    [peak] = [line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")]
    print("peak KiB", peak, file=sys.stderr)
"""


class Place:
    """A repository in a folder, and a disk image beside it."""

    def __init__(self, folder: Path, *, pack_bytes: int) -> None:
        self.folder = folder / "repository"
        self.image = folder / "disk.raw"
        create_repository(_storage(self.folder, create=True), PASSPHRASE, pack_bytes=pack_bytes)

    def open(self) -> Repository:
        storage = _storage(self.folder)
        return open_repository(storage, lambda config: unlock_slots(storage, config, PASSPHRASE))

    def packs(self) -> int:
        return len(list(self.folder.glob("data/*/*")))

    def start(
        self, *, delay_s: float = 0.0, workers: int = 2, packs_per_upload: int = 128
    ) -> subprocess.Popen[str]:
        script = _SLOWLY.format(delay_s=delay_s, workers=workers, packs_per_upload=packs_per_upload)
        command = [sys.executable, "-c", script, "backup", "image", str(self.image)]
        return subprocess.Popen(
            [*command, "--machine", "vm", "--repo", str(self.folder), "--json"],
            env={**os.environ, "STILLFRAME_PASSPHRASE": PASSPHRASE},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait_for_packs(self, process: subprocess.Popen[str], count: int) -> None:
        while self.packs() < count:
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)

    def back_up(self) -> dict[str, Any]:
        process = self.start()
        out, err = process.communicate()
        assert process.returncode == 0, err
        document: dict[str, Any] = json.loads(out)
        return document


def _storage(folder: Path, *, create: bool = False) -> LocalStorage:
    from stillframe.repository.storage.open import open_storage

    storage = open_storage(str(folder), create=create)
    assert isinstance(storage, LocalStorage)
    return storage


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setattr(slots, "_MEMORY_KIB", 64)
    monkeypatch.setattr(slots, "_ITERATIONS", 1)
    made = Place(tmp_path, pack_bytes=2 * MIB)
    made.image.write_bytes(noise(40 * MIB))
    return made


def all_is_well(place: Place) -> None:
    repository = place.open()
    assert check(repository, read_data=True).is_good
    assert scrub(repository.storage, NoProgress()).is_good
    for point in repository.points():
        assert contents_of(repository, point) == {"disk.raw": noise(40 * MIB)}


def test_ctrl_c_ends_with_130_and_the_next_run_goes_on(place: Place) -> None:
    process = place.start(delay_s=0.1)
    place.wait_for_packs(process, 4)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted" in err
    assert "Traceback" not in err
    assert place.open().points() == []
    statistics = place.back_up()["statistics"]
    assert statistics["found_bytes"] >= 3 * MIB
    assert statistics["new_bytes"] < 40 * MIB
    all_is_well(place)


def test_kill_9_between_uploads_and_the_next_run_goes_on(place: Place) -> None:
    process = place.start(delay_s=0.05, packs_per_upload=2)
    place.wait_for_packs(process, 7)
    process.kill()
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert place.open().points() == []
    all_is_well(place)
    statistics = place.back_up()["statistics"]
    assert statistics["found_bytes"] >= 8 * MIB
    all_is_well(place)
    for _ in range(4):
        collect(place.open())
    all_is_well(place)
    assert sum(path.stat().st_size for path in place.folder.glob("data/*/*")) < 41 * MIB


def test_two_processes_of_the_same_data_at_once(place: Place) -> None:
    processes = [place.start(delay_s=0.01) for _ in range(2)]
    for process in processes:
        _, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
    assert len(place.open().points()) == 2
    assert sum(path.stat().st_size for path in place.folder.glob("data/*/*")) < 81 * MIB
    all_is_well(place)
    for _ in range(2):
        collect(place.open())
    assert sum(path.stat().st_size for path in place.folder.glob("data/*/*")) < 43 * MIB
    all_is_well(place)


@pytest.mark.parametrize("workers", [2, 16])
def test_memory_is_bounded_however_many_processors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    """A sparse disk of 1 GiB whose data compresses badly; the limit of `docs/benchmarks.md` is 400 MiB."""
    monkeypatch.setattr(slots, "_MEMORY_KIB", 64)
    monkeypatch.setattr(slots, "_ITERATIONS", 1)
    place = Place(tmp_path, pack_bytes=32 * MIB)
    with place.image.open("wb") as file:
        for part in range(0, 1024, 32):
            file.seek(part * MIB)
            file.write(noise(12 * MIB, part))
        file.truncate(1024 * MIB)
    process = place.start(workers=workers)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    peak_kib = int(err.rpartition("peak KiB")[2])  # of itself: what wait4 says includes whoever started it
    assert 50 * 1024 < peak_kib < 400 * 1024
