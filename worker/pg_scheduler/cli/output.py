"""What commands print: records as a table or as JSON, and progress.

Invariant: standard output carries data only, and to a pipe it is plain: no colour, no tab, one record a line. Progress
goes to standard error.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Literal

import click

from pg_scheduler.printable import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from rich.table import Table

Output = Literal["table", "json"]


def output_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """``-o table|json``, passed on as ``output``."""
    return click.option(
        "-o",
        "--output",
        type=click.Choice(["table", "json"]),
        default="table",
        show_default=True,
        help="Form of what is printed.",
    )(function)


def print_records(records: Sequence[Mapping[str, Any]], output: Output = "table") -> None:
    """Print records of one shape: a JSON array, a drawn table on a terminal, else aligned words, one record a line."""
    if output == "json":
        click.echo(json.dumps([dict(record) for record in records], allow_nan=False, ensure_ascii=False, indent=2))
    elif sys.stdout.isatty():
        from rich.console import Console  # noqa: PLC0415 (rich is wanted on terminals only)

        Console().print(rich_table(records))
    else:
        for line in plain_lines(records):
            click.echo(line)


def plain_lines(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """The records under a heading, in columns parted by at least two blanks."""
    if not records:
        return []
    headings = [name.upper() for name in records[0]]
    rows = [headings, *([shown(value) for value in record.values()] for record in records)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def rich_table(records: Sequence[Mapping[str, Any]], *, title: str | None = None) -> Table:
    """The records as rich draws them."""
    from rich.table import Table  # noqa: PLC0415 (rich is wanted on terminals only)
    from rich.text import Text  # noqa: PLC0415

    table = Table(title=title, title_justify="left")
    for heading in records[0] if records else ():
        table.add_column(heading)
    for record in records:
        table.add_row(*(Text(shown(value)) for value in record.values()))
    return table


def shown(value: object) -> str:
    """One cell: a dash for nothing, words as a person writes them, never a line break, a tab or a terminal's code."""
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return printable(" ".join(str(value).split()))


def progress(line: str) -> None:
    """One line of progress, on standard error."""
    click.echo(line, err=True)
