"""Several processes at one folder: races for a name, and writers killed at any moment."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stillframe.repository.storage.open import open_storage

RACER = """
import sys
from stillframe.repository.storage.open import open_storage
storage = open_storage(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
for number in range(200):
    if storage.put_if_absent(f"log/{number // 50}/{number}", sys.argv[2].encode() * 1000):
        print(number, flush=True)
"""

WRITER = """
import itertools, sys
from stillframe.repository.storage.open import open_storage
storage = open_storage(sys.argv[1])
for number in itertools.count(int(sys.argv[2])):
    storage.put_if_absent(f"data/{number % 3}/{number}", number.to_bytes(4, "little") * 50_000)
    print(number, flush=True)
"""


def start(program: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def test_of_two_processes_exactly_one_wins_each_name(tmp_path: Path) -> None:
    path = str(tmp_path / "r")
    storage = open_storage(path, create=True)
    racers = {letter: start(RACER, path, letter) for letter in "ab"}
    for racer in racers.values():
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers.values():
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    won = {letter: {int(line) for line in racer.communicate()[0].split()} for letter, racer in racers.items()}
    assert won["a"] | won["b"] == set(range(200))
    assert not won["a"] & won["b"]
    for letter, numbers in won.items():
        assert {storage.get(f"log/{n // 50}/{n}") for n in numbers} <= {letter.encode() * 1000}
    assert os.listdir(f"{path}/.tmp") == []


@pytest.mark.parametrize("seed", range(6))
def test_a_writer_killed_at_any_moment_leaves_whole_objects_only(tmp_path: Path, seed: int) -> None:
    path = str(tmp_path / "r")
    storage = open_storage(path, create=True)
    writer = start(WRITER, path, "0")
    assert writer.stdout is not None
    first = writer.stdout.readline()
    time.sleep(random.Random(seed).uniform(0, 0.05))
    writer.send_signal(signal.SIGKILL)
    acknowledged = {int(line) for line in [first, *writer.communicate()[0].splitlines()]}
    there = {int(name.rpartition("/")[2]) for name in storage.list("data/")}
    assert acknowledged <= there <= acknowledged | {max(acknowledged) + 1}
    for number in there:
        assert storage.get(f"data/{number % 3}/{number}") == number.to_bytes(4, "little") * 50_000
    open_storage(path).put_if_absent("config", b"")
    assert os.listdir(f"{path}/.tmp") == []


def test_a_cleaner_leaves_the_files_of_living_writers_alone(tmp_path: Path) -> None:
    """Every process that begins to write cleans up; writers beside it must not notice."""
    path = str(tmp_path / "r")
    open_storage(path, create=True)
    writer = start(WRITER, path, "1000")
    assert writer.stdout is not None
    writer.stdout.readline()
    for number in range(200):
        open_storage(path).put_if_absent(f"index/{number}", b"")
    assert writer.poll() is None
    writer.kill()
    writer.communicate()
