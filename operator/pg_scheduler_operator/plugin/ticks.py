"""When a PeriodicJob ticks, by its spec and by what its status knows beyond that.

Invariants: pure; ticks come from the rule that the workers use, on the grid that they use: the status tells where an
interval's grid lies, which the spec alone does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Final

from pg_scheduler.errors import InvalidArgument, InvalidSchedule
from pg_scheduler.recurrence import Cron, Interval, local, next_after, note, within
from pg_scheduler_operator.errors import InvalidSpec
from pg_scheduler_operator.plugin.facts import condition, holds, is_behind, is_halted, next_times, said, spec_of
from pg_scheduler_operator.resources import PeriodicJobSpec, read

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pg_scheduler.recurrence import Rule
    from pg_scheduler_operator.plugin.facts import Body

EVER: Final = datetime.min.replace(tzinfo=UTC)
LATEST: Final = datetime.max.replace(tzinfo=UTC)
INSTANT: Final = timedelta(microseconds=1)
TOLD_MOST: Final = 5
"""Ticks that a status lists when there are so many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Upcoming:
    """The next ticks.

    Attributes:
        remarks: what stands in their way, or makes them uncertain; for people.
    """

    rule: Rule
    ticks: Sequence[datetime]
    remarks: Sequence[str]


def upcoming(periodic_job: Body, *, count: int, now: datetime) -> Upcoming:
    """The next ``count`` ticks.

    Raises:
        InvalidSpec: the spec cannot be used.
    """
    spec = checked_spec(periodic_job)
    rule = spec.schedule.rule
    told = _told(periodic_job)
    if told and (spec.max_runs is not None or len(told) < TOLD_MOST):
        ticks = [tick for tick in told if tick > now][:count]  # how many runs are left only the database knows
    else:
        ticks = list(islice(_ticks(spec, _grid(rule, told, now), now), count))
    return Upcoming(rule=rule, ticks=ticks, remarks=list(_remarks(periodic_job, spec, is_short=len(ticks) < count)))


def ticks_between(periodic_job: Body, since: datetime, until: datetime, *, most: int) -> list[datetime]:
    """Every tick from ``since`` on and before ``until``, whether it has fired or not.

    Raises:
        InvalidSpec: the spec cannot be used.
        InvalidArgument: there are more than ``most``, or nothing says where the grid of an interval lies.
    """
    spec = checked_spec(periodic_job)
    rule = spec.schedule.rule
    grid = _grid_before(rule, _any_tick(periodic_job, rule), since)
    ticks = list(islice(_ticks(spec, grid, since - INSTANT, until - INSTANT), most + 1))
    if len(ticks) > most:
        raise InvalidArgument(
            f"there are more than {most} ticks in this time", fix="give a shorter time, or more by --max"
        )
    return ticks


def checked_spec(periodic_job: Body) -> PeriodicJobSpec:
    """What the object wants.

    Raises:
        InvalidSpec: it cannot be done.
    """
    spec = read(PeriodicJobSpec, periodic_job, cluster="").spec
    if isinstance(spec, InvalidSpec):
        raise spec
    try:
        spec.schedule.rule  # noqa: B018  (it is checked as it is made)
    except InvalidSchedule as error:
        raise InvalidSpec(error.what, field=f"spec.schedule.{error.field}", why=error.why, fix=error.fix) from error
    return spec


def _told(periodic_job: Body) -> Sequence[datetime]:
    """The ticks that the status lists for this very spec, while none is held back; some may have passed since."""
    if is_behind(periodic_job) or holds(periodic_job, "Stalled") or holds(periodic_job, "Suspended"):
        return []
    return next_times(periodic_job)


def _grid(rule: Rule, told: Sequence[datetime], now: datetime) -> datetime:
    """The anchor: of cron any, of an interval the one that its ticks betray, or now."""
    if isinstance(rule, Cron):
        return EVER
    return told[0] - rule.elapsed(1) if told else now


def _any_tick(periodic_job: Body, rule: Rule) -> datetime:
    times = next_times(periodic_job)
    if isinstance(rule, Cron):
        return EVER
    if not times or is_behind(periodic_job):
        raise InvalidArgument(
            "nobody knows the grid of this interval",
            why="its status lists no tick to come",
            fix="wait for the operator, or resume it, and run this again",
        )
    return times[0]


def _grid_before(rule: Rule, tick: datetime, since: datetime) -> datetime:
    """An anchor of the same grid before ``since``."""
    if isinstance(rule, Cron):
        return EVER
    return tick - rule.elapsed(max(1, (tick - since) // rule.every + 2))


def _ticks(spec: PeriodicJobSpec, anchor: datetime, after: datetime, until: datetime = LATEST) -> Iterator[datetime]:
    rule = spec.schedule.rule
    since, last = within(spec.bounds, after, until)
    tick = next_after(rule, since, anchor=anchor)
    while tick is not None and tick <= last:
        yield tick
        tick = next_after(rule, tick, anchor=anchor)


def _remarks(periodic_job: Body, spec: PeriodicJobSpec, *, is_short: bool) -> Iterator[str]:
    if holds(periodic_job, "Exhausted"):
        yield f"it ticks no more ({said(condition(periodic_job, 'Exhausted'))})"
    if spec_of(periodic_job).get("suspend"):
        yield "it is suspended: none of these ticks fires until it is resumed, and an interval counts from then"
    elif is_halted(periodic_job):
        yield "its runs have failed too often: none of these ticks fires until it is resumed"
    elif holds(periodic_job, "Stalled"):
        yield f"the spec was refused, and the last good schedule ticks ({said(condition(periodic_job, 'Stalled'))})"
    elif is_behind(periodic_job):
        counted = "; an interval is counted from now" if isinstance(spec.schedule.rule, Interval) else ""
        yield f"the operator has not taken over this spec yet{counted}"
    if spec.max_runs is not None and is_short:
        yield "it has maxRuns: only the ticks that the operator tells are listed"


def records(upcoming_ticks: Upcoming) -> list[dict[str, str]]:
    """The ticks as they are printed: in the rule's zone, in UTC, with what a change of clocks does to them."""
    rule = upcoming_ticks.rule
    return [
        {"local": local(rule, tick).isoformat(), "at": shown(tick), "note": _clocks(rule, tick)}
        for tick in upcoming_ticks.ticks
    ]


def _clocks(rule: Rule, tick: datetime) -> str:
    return note(rule, tick) if isinstance(rule, Cron) else ""


def shown(tick: datetime) -> str:
    """In UTC."""
    return f"{tick.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
