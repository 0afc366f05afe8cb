import json

import pytest

from stillframe.cli.output import print_fields, print_json_list, print_table, printable, progress_bar
from stillframe.cli.sizes import format_size, parse_size
from stillframe.errors import UsageError
from stillframe.progress import NoProgress


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("0", 0),
        ("4096", 4096),
        ("4096B", 4096),
        ("1MiB", 1 << 20),
        ("32M", 32 << 20),
        ("64 kb", 64 << 10),
        ("1t", 1 << 40),
    ],
)
def test_sizes_are_binary_with_or_without_suffix(text: str, size_bytes: int) -> None:
    assert parse_size(text) == size_bytes


@pytest.mark.parametrize("text", ["", "M", "-1", "1.5M", "1X", "1e9", "0x10", "9" * 30])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_size(text)


def test_sizes_are_shown_in_the_largest_unit_they_fill() -> None:
    shown = [format_size(n) for n in (0, 1023, 1024, 1536, 1 << 20, 1 << 40)]
    assert shown == ["0 B", "1023 B", "1 KiB", "1.5 KiB", "1 MiB", "1 TiB"]


def test_control_characters_and_undecodable_bytes_do_not_reach_the_terminal() -> None:
    assert printable("a\x1b[2Jb\n\udc80ü") == "a\\x1b[2Jb\\n\\udc80ü"


def test_tables_align_and_fields_share_a_column(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(["name", "size"], [["a", "1"], ["long", "100"]], right=[1])
    print_fields([("format", "raw"), ("id", "x\ty")])
    assert capsys.readouterr().out.splitlines() == [
        "name  size",
        "a        1",
        "long   100",
        "format  raw",
        "id      x\\ty",
    ]


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_streamed_list_is_one_json_document(count: int, capsys: pytest.CaptureFixture[str]) -> None:
    print_json_list({"n": n} for n in range(count))
    assert json.loads(capsys.readouterr().out) == [{"n": n} for n in range(count)]


def test_no_bar_where_nobody_looks(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar() as progress:
        progress.begin("copy", 10)
        progress.advance(10)
    assert isinstance(progress, NoProgress)
    assert capsys.readouterr().err == ""


def test_a_bar_per_stage_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with progress_bar() as progress:
        for stage in ("read [1]", "check"):
            progress.begin(stage, 1 << 20)
            progress.advance(1 << 20)
    shown = capsys.readouterr()
    assert "read [1]" in shown.err
    assert "check" in shown.err
    assert shown.out == ""
