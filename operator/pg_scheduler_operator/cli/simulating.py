"""``pgscheduler simulate``: what the schedules of manifests will do, counted or run by run.

Invariant: what is printed depends on the files, the options and the zone data, and on no clock once both instants are
given.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

import click

from pg_scheduler.cli.output import print_records
from pg_scheduler.errors import SimulationTooLarge
from pg_scheduler.simulation import watch
from pg_scheduler_operator.cli.occupancy import Occupancy
from pg_scheduler_operator.cli.scenes import declared_in, namespaces

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from pathlib import Path

    from pg_scheduler.cli.output import Output
    from pg_scheduler.simulation import Lateness, Peak, Range, Run, Summary, Trace
    from pg_scheduler_operator.cli.scenes import Namespace, Wish

RUNS_LISTED_MAX: Final = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """A namespace and its trace; its runs and its occupancy, where they are asked for."""

    namespace: Namespace
    trace: Trace
    runs: Sequence[Run]
    occupancy: Occupancy

    @property
    def slots(self) -> int | None:
        """How many there are; None without limit."""
        return self.namespace.scene.fleet.all_slots


def simulate_files(paths: Sequence[Path], wish: Wish, *, runs: bool, occupancy: bool) -> list[Played]:
    """What becomes of everything that the files declare, namespace by namespace.

    Raises:
        InvalidArgument: a file, or an object in it, cannot be used.
        SimulationTooLarge: there are too many ticks, or too many runs to list.
    """
    objects, refused = declared_in(paths)
    found, also_refused = namespaces(objects, wish)
    for each in (*refused, *also_refused):
        each.error.add_note(f"file: {each.file}")
        if each.key is not None:
            each.error.add_note(f"of: {each.key}")
        raise each.error
    return play(found, runs=runs, occupancy=occupancy)


def play(found: Sequence[Namespace], *, runs: bool, occupancy: bool) -> list[Played]:
    """What becomes of the objects, namespace by namespace.

    Raises:
        SimulationTooLarge: there are too many ticks, or too many runs to list.
    """
    return [_play(namespace, keep=runs, look=occupancy) for namespace in found]


def _play(namespace: Namespace, *, keep: bool, look: bool) -> Played:
    runs: list[Run] = []
    occupancy = Occupancy(namespace.scene.begins_at, namespace.scene.ends_at)

    def tell(run: Run) -> None:
        if look:
            occupancy.note(run)
        if keep:
            runs.append(run)
        if len(runs) > RUNS_LISTED_MAX:
            raise SimulationTooLarge(
                f"more than {RUNS_LISTED_MAX:,} runs to list",
                limit=RUNS_LISTED_MAX,
                fix="leave out --runs, or simulate a shorter time",
            )

    trace = watch(namespace.scene, tell if keep or look else None)
    runs.sort(key=lambda run: (run.planned_at, run.schedule))
    return Played(namespace=namespace, trace=trace, runs=runs, occupancy=occupancy)


def show(played: Sequence[Played], wish: Wish, output: Output, *, runs: bool) -> None:
    """Print it: a table and the peaks, or one JSON object."""
    if output == "json":
        click.echo(json.dumps(_as_json(played, wish, runs=runs), ensure_ascii=False, indent=2))
        return
    print_records([_row(name, each) for of in played for name, each in sorted(of.trace.schedules.items())])
    click.echo()
    for each in played:
        click.echo(_peak(each))
    if runs:
        click.echo()
        print_records([_run_row(run) for each in played for run in each.runs])


def _row(name: str, summary: Summary) -> dict[str, Any]:
    ledger = summary.ledger
    return {
        "schedule": name,
        "planned": ledger.planned,
        "ran": ledger.ran,
        "skipped": ledger.skipped_overlap,
        "suspended": ledger.skipped_suspended,
        "replaced": ledger.cancelled,
        "missed": ledger.missed,
        "coalesced": ledger.coalesced,
        "open": ledger.open,
        "longest lateness": duration(summary.lateness.max),
    }


def _peak(played: Played) -> str:
    peak, place = played.trace.peak, f"namespace {played.namespace.name}"
    if peak.at is None:
        return f"peak in {place}: nothing runs"
    there = "" if played.slots is None else f" of {played.slots}"
    short = f"; {peak.wanted} are wanted" if peak.wanted > peak.running else ""
    return f"peak in {place}: {peak.running}{there} slots at {instant(peak.at)}{short}"


def _run_row(run: Run) -> dict[str, Any]:
    return {
        "planned": instant(run.planned_at),
        "schedule": run.schedule,
        "outcome": "failed" if run.failed else run.outcome,
        "started": instant(run.started_at),
        "ended": instant(run.ended_at),
        "lateness": duration(run.lateness_seconds),
    }


def _as_json(played: Sequence[Played], wish: Wish, *, runs: bool) -> dict[str, Any]:
    return {
        "from": instant(wish.begins_at),
        "to": instant(wish.ends_at),
        "namespaces": [_namespace_as_json(each, runs=runs) for each in played],
    }


def _namespace_as_json(played: Played, *, runs: bool) -> dict[str, Any]:
    trace = played.trace
    ranges: dict[str, list[dict[str, Any]]] = {name: [] for name in trace.schedules}
    for each in trace.ranges:
        ranges[each.schedule].append(_range_as_json(each))
    return {
        "namespace": played.namespace.name,
        "slots": played.slots,
        "peak": _peak_as_json(trace.peak),
        "lateness": _lateness_as_json(trace.lateness),
        "schedules": [
            {
                "name": name,
                **asdict(summary.ledger),
                "lateness": _lateness_as_json(summary.lateness),
                "ranges": ranges[name],
            }
            for name, summary in sorted(trace.schedules.items())
        ],
        **({"runs": [_run_as_json(run) for run in played.runs]} if runs else {}),
    }


def _peak_as_json(peak: Peak) -> dict[str, Any]:
    return {"running": peak.running, "wanted": peak.wanted, "at": instant(peak.at)}


def _lateness_as_json(lateness: Lateness) -> dict[str, Any]:
    return {
        "p50_seconds": lateness.p50,
        "p99_seconds": lateness.p99,
        "max_seconds": lateness.max,
        "max_at": instant(lateness.max_at),
    }


def _range_as_json(each: Range) -> dict[str, Any]:
    first, last = instant(each.first_at), instant(each.last_at)
    return {"outcome": each.outcome, "first": first, "last": last, "ticks": each.ticks, "reason": each.reason}


def _run_as_json(run: Run) -> dict[str, Any]:
    return {
        "schedule": run.schedule,
        "planned_at": instant(run.planned_at),
        "due_at": instant(run.due_at),
        "started_at": instant(run.started_at),
        "ended_at": instant(run.ended_at),
        "outcome": run.outcome,
        "lateness_seconds": run.lateness_seconds,
    }


def instant(at: datetime | None) -> str | None:
    """In UTC, to the second, or to the millisecond where there is a fraction."""
    if at is None:
        return None
    return f"{at:%Y-%m-%dT%H:%M:%S}{f'.{at.microsecond // 1000:03}' if at.microsecond else ''}Z"


def duration(seconds: float) -> str:
    """As a person writes it: 2.5s, 90s, 3m20s, 1h05m."""
    if seconds < 120:  # noqa: PLR2004  minutes read worse
        return f"{round(seconds, 1):g}s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02}m" if hours else f"{minutes}m{rest:02}s"
