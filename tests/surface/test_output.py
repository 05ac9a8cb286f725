"""Records as tables and as JSON."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console

from pg_scheduler.cli.output import plain_lines, print_records, rich_table, shown

if TYPE_CHECKING:
    from pg_scheduler.cli.output import Output

RECORDS: list[dict[str, Any]] = [
    {"name": "hello", "runs": 1, "paused": False},
    {"name": "nightly\treport", "runs": None, "paused": True},
]


def test_plain_lines_are_aligned_one_record_each_and_without_tabs() -> None:
    assert plain_lines(RECORDS) == [
        "NAME            RUNS  PAUSED",
        "hello           1     no",
        "nightly report  -     yes",
    ]


def test_json_keeps_types_and_text(capsys: pytest.CaptureFixture[str]) -> None:
    print_records(RECORDS, "json")

    assert json.loads(capsys.readouterr().out) == RECORDS


@pytest.mark.parametrize(("output", "expected"), [("table", ""), ("json", "[]\n")])
def test_no_records_are_nothing_or_an_empty_array(
    capsys: pytest.CaptureFixture[str], output: Output, expected: str
) -> None:
    print_records([], output)

    assert capsys.readouterr().out == expected


@pytest.mark.parametrize(("value", "expected"), [("", "-"), (0, "0"), ("a\nb\tc", "a b c"), ("[red]x", "[red]x")])
def test_cell_is_one_line_of_plain_words(value: object, expected: str) -> None:
    assert shown(value) == expected


def test_drawn_table_takes_text_for_text() -> None:
    console = Console(width=60, file=io.StringIO())
    console.print(rich_table([{"state": "[red]not a colour[/red]"}]))

    assert isinstance(console.file, io.StringIO)
    assert "[red]not a colour[/red]" in console.file.getvalue()
