"""Medians, ratios and verdicts, from samples to the tables."""

from __future__ import annotations

import pytest
from benchmarks.contestants import Measure
from benchmarks.measured import Taken
from benchmarks.report import markdown, tables
from benchmarks.results import Figure, Results, Sample
from benchmarks.targets import TARGETS, Memory, Stored, Target, Verdict, Wall, verdicts

MIB = 1 << 20


def sample(contestant: str, measure: Measure, wall_s: float, memory: int = MIB, stored: int = 0) -> Sample:
    return Sample(contestant, measure, 1, Taken(wall_s, wall_s / 4, wall_s / 2, memory), stored)


@pytest.fixture
def results() -> Results:
    walls = {"stillframe": (9.0, 1.0, 2.0), "borg": (10.0, 30.0, 8.0)}
    samples = [sample(name, Measure.FIRST, wall) for name, taken in walls.items() for wall in taken]
    samples.append(sample("stillframe", Measure.CHECK, 1, memory=401 * MIB))
    return Results(samples)


def test_medians_not_means(results: Results) -> None:
    assert results.wall_s("stillframe", Measure.FIRST) == 2.0
    assert results.cpu_s("borg", Measure.FIRST) == 5.0
    assert results.wall_s("restic", Measure.FIRST) is None


def test_memory_is_the_highest_of_all_measures(results: Results) -> None:
    assert results.memory_bytes("stillframe") == 401 * MIB
    assert results.memory_bytes("stillframe", Measure.FIRST) == MIB
    assert results.memory_bytes("restic") is None


@pytest.mark.parametrize(("at_most", "word"), [(0.2, "met"), (0.19, "missed")])
def test_a_ratio_is_ours_by_theirs(results: Results, at_most: float, word: str) -> None:
    target = Target("first", Wall(Measure.FIRST), at_most, "borg")
    verdict = Verdict(target, target.quantity(results, "stillframe"), target.quantity(results, "borg"))
    assert verdict.reached == pytest.approx(0.2)
    assert verdict.word == word


def test_an_amount_stands_alone(results: Results) -> None:
    verdict = Verdict(Target("memory", Memory(), 400 * MIB, unit="bytes"), 401 * MIB, None)
    assert verdict.reached == 401 * MIB
    assert verdict.word == "missed"


def test_what_was_not_measured_is_not_met(results: Results) -> None:
    words = {each.target.title + each.target.beside: each.word for each in verdicts(results)}
    assert words["first backupborg"] == "met"
    assert words["first backuprestic"] == "not measured"
    assert words["peak memory of any measure"] == "missed"
    assert words["points, 10 000 of 1 TiB disks"] == "not measured"


def test_size_and_scale_targets() -> None:
    results = Results(
        [sample("stillframe", Measure.FIRST, 1, stored=106), sample("restic", Measure.FIRST, 1, stored=100)],
        [Figure("scattered_s", 0.5), Figure("scattered_beyond_data_bytes", 400_000)],
    )
    words = {each.target.title: each.word for each in verdicts(results)}
    assert words["repository size, first backup"] == "missed"
    assert words["64 scattered changes, full 10 TiB disk"] == "met"
    assert words["the same, added beyond the data"] == "missed"
    assert Stored(Measure.FIRST)(results, "restic") == 100


def test_tables_and_markdown_say_it(results: Results) -> None:
    all_rows = tables(results, verdicts(results))
    written = markdown({"kernel": "6.1"}, all_rows)
    assert "- kernel: 6.1" in written
    assert "| first backup | 2.00 (1.00 to 9.00) | 10.00 (8.00 to 30.00) |" in written
    assert "| first backup | 2.00 | 0.20 | 0.3 x borg | met |" in written
    assert "| peak memory of any measure | 401 MiB | 401 MiB | 400 MiB | missed |" in written
    assert "| check, all data read | 1.00 | - |" in written
    assert "restore the disk | -" in written  # a target that nothing was measured for is still listed


def test_no_table_is_empty() -> None:
    [only] = tables(Results(), verdicts(Results()))
    assert len(only.rows) == len(TARGETS)
