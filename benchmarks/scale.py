"""Figures at sizes that no test disk has, on synthetic repositories; the commands are the user's.

A case is a function that builds what it needs in a new folder and returns its figures. ``CASES`` lists them;
``python -m benchmarks.scale CASE FOLDER`` runs one in a process of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np

from benchmarks import fan_out, synthetic
from benchmarks.changes import PIECE_BYTES, merged
from benchmarks.contestants import PASSPHRASE, Place, Stillframe
from benchmarks.measured import Taken, measure
from benchmarks.results import Figure
from stillframe.repository.repository import Repository, open_repository
from stillframe.repository.storage.open import open_storage
from stillframe.repository.unlocking import unlock_slots

GIB, TIB = 1 << 30, 1 << 40
PAGE_BYTES = 4096
SCATTERED = 64
POINTS = 10_000
CHANGED_BLOCKS_OF_A_POINT = 64
TREE_SEED = 1

Case = Callable[[Path], list[Figure]]


def scattered(folder: Path, disk_bytes: int = 10 * TIB) -> list[Figure]:
    """64 changes of 64 KiB, extents known, on a full disk: from program start to durable point."""
    place = _place(folder, "full.raw")
    os.truncate(place.image, disk_bytes)
    _run(place, "repo", "init")
    _run(place, "backup", "image", str(place.image), "--machine", "bench")
    random = np.random.default_rng(TREE_SEED)
    offsets = sorted(random.choice(disk_bytes // PIECE_BYTES, SCATTERED, replace=False) * PIECE_BYTES)
    _fill(place, [int(offset) for offset in offsets], random)
    _warm(place)
    before_bytes = _file_bytes(place.repository)
    taken = _run(
        place, "backup", "image", str(place.image), "--machine", "bench", "--changed", str(place.extents)
    )
    added_bytes = _file_bytes(place.repository) - before_bytes
    return [
        Figure("scattered_s", taken.wall_s),
        Figure("scattered_memory_bytes", taken.memory_bytes),
        Figure("scattered_beyond_data_bytes", added_bytes - SCATTERED * PIECE_BYTES),
    ]


def _warm(place: Place) -> None:
    """One increment unmeasured: who protects a disk has the index in its cache from the last run."""
    one = place.folder / "one.json"
    offset_bytes = json.loads(place.extents.read_text())[0][0]  # only the changed paths are really stored
    one.write_text(json.dumps([[offset_bytes, PAGE_BYTES]]))
    _run(place, "backup", "image", str(place.image), "--machine", "bench", "--changed", str(one))


def _fill(place: Place, offsets: list[int], random: np.random.Generator) -> None:
    """Make the disk full in the repository, and change it at the offsets."""
    with open(place.image, "r+b") as image:
        for offset in offsets:
            image.seek(offset)
            image.write(random.bytes(PIECE_BYTES))
    place.extents.write_text(json.dumps(merged(offsets)))
    repository = _open(place)
    config, [point] = repository.config, repository.points()
    blocks = point.disks[0].block_count
    tree = fan_out.cost(blocks * config.block_bytes, config.block_bytes, config.fan_out, 0, TREE_SEED)
    packs = -(-tree.tree_bytes // config.pack_bytes)
    synthetic.fill_disk(
        repository, point, [offset // config.block_bytes for offset in offsets], packs, random
    )
    synthetic.add_index_rows(repository, blocks + tree.nodes, random)


def many_points(folder: Path, points: int = POINTS, disk_bytes: int = TIB) -> list[Figure]:
    """Listing points, and the files of one of them, where there are very many."""
    place = _place(folder, "disk.raw")
    _make_file_system(place.image, disk_bytes)
    _run(place, "repo", "init")
    _run(place, "backup", "image", str(place.image), "--machine", "bench")
    repository = _open(place)
    [point] = repository.points()
    synthetic.repeat_point(repository, point, points - 1)
    blocks = disk_bytes // repository.config.block_bytes
    synthetic.add_index_rows(
        repository, blocks + points * CHANGED_BLOCKS_OF_A_POINT, np.random.default_rng(TREE_SEED)
    )
    listed = _run(place, "points")
    files = _run(place, "files", "ls", "bench@latest:disk.raw/")
    return [
        Figure("many_points_list_s", listed.wall_s),
        Figure("many_points_list_memory_bytes", listed.memory_bytes),
        Figure("many_points_files_s", files.wall_s),
        Figure("many_points_files_memory_bytes", files.memory_bytes),
    ]


def _make_file_system(image: Path, disk_bytes: int) -> None:
    """ext4 with a few files, on a disk that is otherwise holes."""
    tree = image.with_name("tree")
    for number in range(100):
        path = tree / f"folder-{number % 10}" / f"file-{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"file {number}\n")
    os.truncate(image, disk_bytes)
    subprocess.run(["/sbin/mkfs.ext4", "-q", "-F", "-d", str(tree), str(image)], check=True)


def _place(folder: Path, disk_name: str) -> Place:
    folder.mkdir(parents=True, exist_ok=True)
    place = Place(folder, folder / disk_name, folder / "extents.json")
    place.image.touch()
    return place


def _run(place: Place, *arguments: str) -> Taken:
    ours = Stillframe()
    subprocess.run(["sync", "-f", str(place.folder)], check=True)
    return measure([ours.program, *arguments], place.folder, ours.environment(place))


def _open(place: Place) -> Repository:
    storage = open_storage(str(place.repository))
    return open_repository(storage, lambda config: unlock_slots(storage, config, PASSPHRASE))


def _file_bytes(folder: Path) -> int:
    return sum(each.stat().st_size for each in folder.rglob("*") if each.is_file())


CASES: Mapping[str, Case] = {"scattered": scattered, "many-points": many_points}


def run_case(name: str, folder: Path) -> list[Figure]:
    """The figures of one case, run in a process of its own.

    Raises:
        subprocess.CalledProcessError: it failed; what it wrote went to standard error.
    """
    command = [sys.executable, "-m", "benchmarks.scale", name, str(folder)]
    ended = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return [Figure(**each) for each in json.loads(ended.stdout)]


def main() -> None:
    """``python -m benchmarks.scale CASE FOLDER``: print the figures of a case as JSON."""
    name, folder = sys.argv[1], Path(sys.argv[2])
    print(json.dumps([asdict(each) for each in CASES[name](folder)]))


if __name__ == "__main__":
    main()
