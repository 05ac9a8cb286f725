"""A simulation as a picture: slots in use and how late runs start, one pair of panels for each namespace.

Invariant: the same simulation gives the same file.
"""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING, Final

import matplotlib as mpl
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pg_scheduler_operator.cli.occupancy import COLUMNS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import Any

    from pg_scheduler_operator.cli.scenes import Wish
    from pg_scheduler_operator.cli.simulate import Played

RUNNING, LATE, LIMIT = "#2a7f62", "#c1432e", "#555555"
FORMS: Final = (".svg", ".png")


def draw(played: Sequence[Played], wish: Wish, file: Path) -> None:
    """Write the picture; the file's suffix says its form."""
    mpl.rcParams["svg.hashsalt"] = "pgscheduler"
    mpl.rcParams["svg.fonttype"] = "none"
    canvas = Figure(figsize=(11, 4.2 * len(played)), layout="constrained")
    panels = canvas.subplots(2 * len(played), 1, sharex=True, squeeze=False, height_ratios=[3, 2] * len(played))
    width = (wish.ends_at - wish.begins_at) / COLUMNS
    instants = [wish.begins_at + n * width for n in range(COLUMNS + 1)]
    for each, (slots, lateness) in zip(played, zip(panels[::2, 0], panels[1::2, 0], strict=True), strict=True):
        _draw_slots(slots, each, instants)
        _draw_lateness(lateness, each, instants)
    locator = AutoDateLocator(tz=UTC)
    panels[-1, 0].xaxis.set_major_locator(locator)
    panels[-1, 0].xaxis.set_major_formatter(ConciseDateFormatter(locator, tz=UTC))
    panels[-1, 0].set_xlabel("UTC", fontsize=9)
    panels[-1, 0].set_xlim(instants[0], instants[-1])
    canvas.savefig(file, metadata={"Date": None} if file.suffix == ".svg" else None, dpi=110)


def _draw_slots(axes: Any, played: Played, instants: Sequence[Any]) -> None:
    axes.stairs(played.occupancy.most_running(), date2num(instants), fill=True, color=RUNNING, alpha=0.8)
    peak = played.trace.peak
    if played.slots is not None:
        axes.axhline(played.slots, color=LIMIT, linewidth=1, linestyle="--")
        axes.annotate(
            f"{played.slots} slots",
            (1, played.slots),
            (-4, 3),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            ha="right",
            fontsize=8,
            color=LIMIT,
        )
    if peak.at is not None:
        wanted = f", {peak.wanted} wanted" if peak.wanted > peak.running else ""
        axes.set_title(
            f"namespace {played.namespace.name}: at most {peak.running} jobs at a time{wanted},"
            f" {peak.at:%Y-%m-%d %H:%M:%S} UTC",
            fontsize=10,
            loc="left",
        )
    axes.set_ylabel("slots in use", fontsize=9)
    axes.set_ylim(0, 1.15 * max(peak.running, played.slots or 0, 1))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    _strip(axes)


def _draw_lateness(axes: Any, played: Played, instants: Sequence[Any]) -> None:
    lateness = played.trace.lateness
    axes.stairs(played.occupancy.latest_start(), date2num(instants), fill=True, color=LATE, alpha=0.8)
    axes.set_ylabel("latest start, s", fontsize=9)
    axes.set_ylim(0, 1.15 * (lateness.max or 1))
    axes.annotate(
        f"p50 {lateness.p50:g} s, p99 {lateness.p99:g} s, longest {lateness.max:g} s",
        (1, 1),
        (-4, -12),
        xycoords="axes fraction",
        textcoords="offset points",
        ha="right",
        fontsize=8,
    )
    _strip(axes)


def _strip(axes: Any) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.tick_params(labelsize=8)
