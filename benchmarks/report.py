"""The result: a table for people, JSON for programs.

Invariant: a result says where it was measured, since its absolute figures mean nothing anywhere else.
"""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import asyncpg
import click

import pg_scheduler
from pg_scheduler.cli.output import Output, print_records

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.bench import Bench
    from benchmarks.figures import Figure

VERDICTS = {True: "met", False: "NOT MET", None: ""}


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """Where and how a run was made."""

    measured_at: str
    release: str
    python: str
    loop: str
    postgres: str
    machine: str
    cpus: int
    scale: float
    pairs: int

    def __str__(self) -> str:
        return (
            f"pg_scheduler {self.release}, Python {self.python} ({self.loop}), PostgreSQL {self.postgres}, "
            f"{self.machine}, {self.cpus} CPUs, scale {self.scale:g}, {self.pairs} pairs, {self.measured_at}"
        )


async def circumstances_of(bench: Bench) -> Circumstances:
    """Those of this run."""
    connection = await asyncpg.connect(bench.dsn)
    try:
        postgres = await connection.fetchval("SHOW server_version")
    finally:
        await connection.close()
    return Circumstances(
        measured_at=datetime.now(UTC).isoformat(timespec="minutes"),
        release=pg_scheduler.__version__,
        python=platform.python_version(),
        loop=bench.loop,
        postgres=postgres,
        machine=f"{platform.system()} {platform.machine()}",
        cpus=os.cpu_count() or 0,
        scale=bench.scale,
        pairs=bench.pairs,
    )


def print_result(circumstances: Circumstances, figures: Sequence[Figure], output: Output) -> None:
    """Print it; JSON has every field."""
    if output == "json":
        click.echo(json.dumps(as_json(circumstances, figures), allow_nan=False, ensure_ascii=False, indent=2))
    else:
        print_records([_row(figure) for figure in figures])


def as_json(circumstances: Circumstances, figures: Sequence[Figure]) -> dict[str, Any]:
    """``{"circumstances": {…}, "figures": […]}``."""
    return {"circumstances": asdict(circumstances), "figures": [figure.record() for figure in figures]}


def number(value: float | None) -> str | None:
    """Three digits, or all before the point."""
    if value is None:
        return None
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"  # noqa: PLR2004 - three digits


def _row(figure: Figure) -> dict[str, Any]:
    return {
        "scenario": figure.scenario,
        "case": figure.case,
        "unit": figure.unit,
        "ours": number(figure.ours),
        "bare": number(figure.bare),
        "ratio": None if figure.ratio is None else f"{figure.ratio:.2f}",
        "goal": figure.goal and str(figure.goal),
        "verdict": VERDICTS[figure.met],
        "spread": None if figure.spread is None else f"{figure.spread:.0%}",
    }
