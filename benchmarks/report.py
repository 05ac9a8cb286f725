"""The result: a table for people, JSON for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pg_scheduler.cli.output import Output, print_records

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.figures import Figure

VERDICTS = {True: "met", False: "NOT MET", None: ""}


def print_figures(figures: Sequence[Figure], output: Output) -> None:
    """Print them; JSON has every field."""
    print_records([figure.record() if output == "json" else _row(figure) for figure in figures], output)


def _row(figure: Figure) -> dict[str, Any]:
    return {
        "scenario": figure.scenario,
        "case": figure.case,
        "unit": figure.unit,
        "ours": _number(figure.ours),
        "bare": _number(figure.bare),
        "ratio": figure.ratio and f"{figure.ratio:.2f}",
        "goal": figure.goal and str(figure.goal),
        "verdict": VERDICTS[figure.met],
        "spread": figure.spread and f"{figure.spread:.0%}",
    }


def _number(value: float | None) -> str | None:
    if value is None:
        return None
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"  # noqa: PLR2004 - three digits are enough
