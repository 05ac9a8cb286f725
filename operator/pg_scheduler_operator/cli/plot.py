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
from pg_scheduler_operator.cli.simulating import duration, instant

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import Any

    from pg_scheduler_operator.cli.scenes import Wish
    from pg_scheduler_operator.cli.simulating import Played

RUNNING, DUE, LATE, LIMIT = "#2a7f62", "#e0b252", "#c1432e", "#333333"
UNITS: Final = (("hours", 3600), ("minutes", 60), ("seconds", 1))


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
    peak, place = played.trace.peak, f"namespace {played.namespace.name}"
    edges = date2num(instants)
    wanted = played.occupancy.due_or_running()
    axes.stairs(wanted, edges, fill=True, color=DUE, label="due, not started")
    axes.stairs(played.occupancy.running(), edges, fill=True, color=RUNNING, label="running")
    if played.slots is not None:
        axes.axhline(played.slots, color=LIMIT, linewidth=1, linestyle="--", label=f"{played.slots} slots")
    most = (
        "nothing runs"
        if peak.at is None
        else f"at most {peak.running} run, {peak.wanted} are wanted at {instant(peak.at)}"
    )
    axes.set_title(f"{place}: {most}", fontsize=9, loc="left")
    axes.set_ylabel("jobs", fontsize=9)
    axes.set_ylim(0, 1.1 * max(*wanted, peak.wanted, played.slots or 0, 1))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(fontsize=8, loc="lower right", bbox_to_anchor=(1, 1), ncols=3, frameon=False, borderaxespad=0.1)
    _strip(axes)


def _draw_lateness(axes: Any, played: Played, instants: Sequence[Any]) -> None:
    lateness = played.trace.lateness
    unit, size = next((unit, size) for unit, size in UNITS if lateness.max >= 2 * size or size == 1)
    late = [seconds / size for seconds in played.occupancy.lateness()]
    axes.stairs(late, date2num(instants), fill=True, color=LATE)
    figures = (duration(seconds) for seconds in (lateness.p50, lateness.p99, lateness.max))
    axes.set_title("starts after due time: p50 {}, p99 {}, longest {}".format(*figures), fontsize=9, loc="left")
    axes.set_ylabel(unit, fontsize=9)
    axes.set_ylim(0, 1.1 * (lateness.max / size or 1))
    _strip(axes)


def _strip(axes: Any) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.tick_params(labelsize=8)
