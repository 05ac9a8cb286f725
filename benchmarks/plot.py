"""The result as a picture: how far each figure lies from its goal, on either side.

Invariant: one scale for all, the factor by which a goal is beaten (right of the line) or missed (left of it), whatever
its unit and direction. Counts of mistakes have no such factor: their goal is none, and they are left to the table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib as mpl
from matplotlib.figure import Figure as Canvas

from benchmarks.report import number

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from benchmarks.figures import Figure
    from benchmarks.report import Circumstances

MET, MISSED = "#2a7f62", "#c1432e"
ROW_INCHES = 0.34
TICKS = (0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20)
NARROWEST, WIDEST = 0.02, 20.0
"""Bars end here, whatever their factor: the words beside them tell."""


def draw(circumstances: Circumstances, figures: Sequence[Figure], file: Path) -> None:
    """Write the picture; the file's suffix says its form (svg, png)."""
    factors = [(figure, factor) for figure in figures if (factor := _factor(figure)) is not None]
    factors.reverse()  # the first is to be on top
    mpl.rcParams["svg.hashsalt"] = "pgscheduler"  # the same result gives the same file
    mpl.rcParams["svg.fonttype"] = "none"
    canvas = Canvas(figsize=(11, 1.6 + ROW_INCHES * len(factors)), layout="constrained")
    axes = canvas.subplots()
    for row, (figure, factor) in enumerate(factors):
        axes.barh(row, factor - 1, left=1, color=MET if figure.met else MISSED, height=0.62)
        axes.annotate(  # beside the line, where a bar to the left leaves room
            _words(figure), (max(1.0, factor), row), (5, 0), textcoords="offset points", va="center", fontsize=8
        )
    axes.set_xscale("log")
    axes.set_xlim(NARROWEST * 0.8, WIDEST * 10)
    axes.set_xticks(TICKS, [f"{tick:g}" for tick in TICKS])
    axes.set_xticks([], minor=True)
    axes.set_yticks(range(len(factors)), [f"{figure.scenario}: {figure.case}" for figure, _ in factors], fontsize=8)
    axes.set_ylim(-0.7, max(1, len(factors)) - 0.3)
    axes.axvline(1, color="#333333", linewidth=1)
    axes.set_xlabel("times as good as the goal; right of the line it is met", fontsize=9)
    canvas.suptitle(str(circumstances).replace(", scale", "\nscale"), fontsize=9)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(axis="y", length=0)
    canvas.savefig(file, metadata={"Date": None} if file.suffix == ".svg" else None, dpi=110)


def _factor(figure: Figure) -> float | None:
    """How many times as good as its goal; None without a goal that could be beaten by a factor."""
    goal = figure.goal
    if goal is None:
        return None
    value = figure.ratio if goal.of == "ratio" else figure.ours
    if value is None:
        return None
    if goal.at_least:
        factor = value / goal.at_least
    elif goal.at_most:
        factor = goal.at_most / value if value else WIDEST
    else:
        return None
    return min(WIDEST, max(NARROWEST, factor))


def _words(figure: Figure) -> str:
    if figure.goal is not None and figure.goal.of == "ours":
        return f"{number(figure.ours)} {figure.unit}; goal {figure.goal.bounds}"
    return f"{figure.ratio or 0:.2f} of bare; goal {figure.goal and figure.goal.bounds}"
