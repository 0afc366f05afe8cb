"""The bare pipeline stores what it should, the fan-out model agrees with a tree that is counted out."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from benchmarks.fan_out import HEADER_BYTES, KEEPING_BYTES, PIECES_BYTES, REFERENCE_BYTES, cost
from benchmarks.parameters import main
from benchmarks.pipeline import Settings, is_zero, run
from blake3 import blake3

KIB, MIB = 1 << 10, 1 << 20


@pytest.mark.parametrize("block_bytes", [64 * KIB, MIB, 8 * MIB])
def test_the_pipeline_stores_each_block_once(tmp_path: Path, block_bytes: int) -> None:
    unique = os.urandom(block_bytes)
    (tmp_path / "disk").write_bytes(unique * 3 + bytes(2 * block_bytes) + os.urandom(4096))
    folder = tmp_path / "packs"
    folder.mkdir()
    outcome = run(tmp_path / "disk", folder, Settings(block_bytes, 1, 4 * block_bytes))
    assert (outcome.blocks, outcome.zero, outcome.found) == (6, 2, 2)
    assert outcome.stored_bytes == block_bytes + 4096 + 2 * 16
    packs = list(folder.iterdir())
    assert outcome.packs == len(packs)
    assert sum(each.stat().st_size for each in packs) == outcome.stored_bytes
    assert all(blake3(each.read_bytes()).hexdigest() == each.name for each in packs)


def test_packs_are_as_large_as_asked_and_text_shrinks(tmp_path: Path) -> None:
    lines = b"".join(b"%032x\n" % (number * 0x9E3779B97F4A7C15) for number in range(1 << 17))
    (tmp_path / "disk").write_bytes(lines)
    (tmp_path / "packs").mkdir()
    outcome = run(tmp_path / "disk", tmp_path / "packs", Settings(64 * KIB, 1, 256 * KIB))
    assert outcome.stored_bytes < len(lines) * 0.8
    sizes = sorted(each.stat().st_size for each in (tmp_path / "packs").iterdir())
    assert all(256 * KIB <= size < 320 * KIB + 16 for size in sizes[2:])


def test_a_full_disk_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "disk").write_bytes(os.urandom(MIB))
    with pytest.raises(FileNotFoundError):
        run(tmp_path / "disk", tmp_path / "missing", Settings(64 * KIB, 1, 128 * KIB))


@pytest.mark.parametrize("length_bytes", [4096, 1 << 20, 4095, 8])
def test_zero_is_zero_wherever_the_other_byte_is(length_bytes: int) -> None:
    block = bytearray(length_bytes)
    assert is_zero(memoryview(block))
    for place in (0, length_bytes // 2 + 3, length_bytes - 1):
        block[place] = 1
        assert not is_zero(memoryview(block))
        block[place] = 0


@pytest.mark.parametrize(("blocks", "fan_out"), [(64, 4), (1000, 8), (37, 2), (5, 16), (1, 4)])
def test_fan_out_agrees_with_a_tree_counted_out(blocks: int, fan_out: int) -> None:
    block_bytes, changes = 256 * KIB, min(12, blocks)
    taken = cost(blocks * block_bytes, block_bytes, fan_out, changes, seed=3)
    places = np.random.default_rng(3).choice(blocks * 4, changes, replace=False)
    touched = {int(place) // 4 for place in places}
    written_bytes = len(touched) * (PIECES_BYTES - REFERENCE_BYTES)
    level, heights, tree_bytes, nodes = list(range(blocks)), 0, 0, 0
    while heights == 0 or len(level) > 1:
        groups = [level[start : start + fan_out] for start in range(0, len(level), fan_out)]
        sizes = [HEADER_BYTES + KEEPING_BYTES + REFERENCE_BYTES * len(group) for group in groups]
        touched = {child // fan_out for child in touched}
        written_bytes += sum(sizes[node] for node in touched)
        tree_bytes, nodes = tree_bytes + sum(sizes), nodes + len(touched)
        level, heights = list(range(len(groups))), heights + 1
    assert (taken.height, taken.tree_bytes) == (heights - 1, tree_bytes)
    assert (taken.written_nodes, taken.written_bytes) == (nodes, written_bytes)


def test_the_whole_program(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.md"
    arguments = ["--size", "4MiB", "--rounds", "1", "--folder", str(tmp_path / "work")]
    assert main([*arguments, "--markdown", str(out)]) == 0
    assert "| 1 MiB |" in out.read_text()
    assert "fan-out 64" in capsys.readouterr().out
    assert not (tmp_path / "work").exists()
