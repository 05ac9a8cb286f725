"""Which ticks of a schedule become jobs now, and what becomes of the others.

Invariant: between the high-water mark before and the one after it, each tick of the rule is either made or passed.
Pure: the ticker writes what is decided here, and a simulation reads it.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from pg_scheduler._domain.counting import last_within
from pg_scheduler._domain.ledger import Passed, Passing, passed
from pg_scheduler._domain.policies import Policy
from pg_scheduler._domain.schedules import StoredSchedule
from pg_scheduler._domain.walk import INSTANT, next_within, within


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """One tick that becomes a job; ``previous_at`` is the one before it that did, None for the first."""

    at: datetime
    due_at: datetime
    previous_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a schedule owes; ``next_at`` is None when its rule or its bounds have come to an end."""

    ticks: tuple[Tick, ...]
    passed: tuple[Passed, ...]
    next_at: datetime | None

    @property
    def last_at(self) -> datetime | None:
        """The new high-water mark; None when it stays."""
        return max([*(tick.at for tick in self.ticks), *(each.last_at for each in self.passed)], default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Overdue:
    made: tuple[datetime, ...]
    passed: tuple[Passed, ...]


def plan_ticks(schedule: StoredSchedule, now: datetime, horizon: timedelta) -> Plan:
    """The overdue ticks by the schedule's policy, and all of the horizon ahead.

    A year of downtime costs one step, whatever the rule: what is not made is counted and not listed.
    """
    overdue = _overdue(schedule, now)
    made = list(overdue.made)
    tick = _next(schedule, max(now, schedule.mark), len(made))
    while tick and tick <= now + horizon:
        made.append(tick)
        tick = _next(schedule, tick, len(made))
    due_at = schedule.definition.bounds.due_at
    previous = [schedule.last_run_tick_at, *made]
    ticks = tuple(
        Tick(at=at, due_at=due_at(at, schedule.id), previous_at=before)
        for at, before in zip(made, previous, strict=False)
    )
    return Plan(ticks=ticks, passed=overdue.passed, next_at=tick)


def _overdue(schedule: StoredSchedule, now: datetime) -> _Overdue:
    policy, room, mark = schedule.definition.policy, schedule.runs_left, schedule.mark
    if room == 0 or now <= mark:
        return _Overdue(made=(), passed=())
    in_time = max(mark, min(now, _deadline(policy, now)))
    at_most = policy.max_catch_up if policy.missed == "run_all" else 1
    made = _last(schedule, in_time, now, at_most if room is None else min(room, at_most))
    too_late = _passed(schedule, "missed", _too_late(policy), mark, in_time)
    others = _passed(schedule, *_beside(policy), in_time, made[0] - INSTANT) if made else ()
    return _Overdue(made=made, passed=too_late + others)


def _deadline(policy: Policy, now: datetime) -> datetime:
    """The instant after which a tick may still start."""
    if policy.starting_deadline_seconds is not None:
        return now - timedelta(seconds=policy.starting_deadline_seconds) - INSTANT
    return now - INSTANT if policy.missed == "skip" else datetime.min.replace(tzinfo=now.tzinfo)


def _too_late(policy: Policy) -> str:
    if policy.starting_deadline_seconds is None:
        return "nobody was there to run them, and missed runs are skipped"
    return f"nobody was there to run them within {policy.starting_deadline_seconds} seconds"


def _beside(policy: Policy) -> tuple[Passing, str]:
    if policy.missed == "run_all":
        return "missed", f"more than {policy.max_catch_up} runs, or the last ones, were to catch up"
    return "coalesced", "one run stands for all that nobody was there to run"


def _last(schedule: StoredSchedule, after: datetime, until: datetime, n: int) -> tuple[datetime, ...]:
    definition = schedule.definition
    return last_within(definition.rule, *within(definition.bounds, after, until), n, anchor=schedule.anchor_at)


def _passed(
    schedule: StoredSchedule, outcome: Passing, reason: str, after: datetime, until: datetime
) -> tuple[Passed, ...]:
    definition = schedule.definition
    return passed(
        outcome,
        reason,
        rule=definition.rule,
        bounds=definition.bounds,
        anchor=schedule.anchor_at,
        after=after,
        until=until,
    )


def _next(schedule: StoredSchedule, instant: datetime, more: int) -> datetime | None:
    definition = schedule.definition
    return next_within(
        definition.rule, definition.bounds, instant, anchor=schedule.anchor_at, made=schedule.runs + more
    )
