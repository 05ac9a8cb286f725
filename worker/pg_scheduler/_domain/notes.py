"""What a change of clocks does to a tick, in a sentence.

Invariant: a note tells of the rule's choices and of the clock; it changes nothing.
"""

from collections.abc import Sequence
from datetime import datetime

from pg_scheduler._domain import zones
from pg_scheduler._domain.passes import FIRST, LAST
from pg_scheduler._domain.rules import Cron, Interval, Rule
from pg_scheduler._domain.walk import BEGIN, INSTANT, latest_until, next_after
from pg_scheduler._domain.walls import MINUTE, floor, minute_before, next_wall
from pg_scheduler._domain.zones import Change


def note(rule: Rule, tick: datetime) -> str:
    """The note on one of the rule's ticks; empty where the clock goes on as always."""
    if isinstance(rule, Interval):
        return ""
    return "; ".join(filter(None, (_of_gaps(rule, tick), _of_repetition(rule, tick))))


def notes_within(rule: Rule, after: datetime, until: datetime) -> list[tuple[datetime, str]]:
    """For each change of clocks in a window that the rule notices: the first tick that has a note, and the note."""
    if isinstance(rule, Interval):
        return []
    changes = zones.changes_between(rule.zone, after + INSTANT, until)
    return [noted for change in changes if (noted := _first_noted(rule, change))]


def _first_noted(rule: Cron, change: Change) -> tuple[datetime, str] | None:
    shift = abs(change.after - change.before)
    tick = next_after(rule, change.at - shift - INSTANT, anchor=BEGIN)
    while tick is not None:
        if told := note(rule, tick):
            return tick, told
        if tick >= change.at + shift:
            return None
        tick = next_after(rule, tick, anchor=BEGIN)
    return None


def _of_gaps(rule: Cron, tick: datetime) -> str:
    """What was left out since the tick before, if such minutes do not run; else what runs here instead."""
    is_skipped = rule.nonexistent == "skip"
    since = latest_until(rule, tick - INSTANT, anchor=BEGIN) if is_skipped else tick - MINUTE
    for change in zones.changes_between(rule.zone, (since or BEGIN) + INSTANT, tick):
        if walls := _left_out(rule, change):
            day = walls[0].date()
            on = "that day" if day == zones.wall_at(rule.zone, tick).date() else f"on {day}"
            does, runs = ("does", "runs") if len(walls) == 1 else ("do", "run")
            end = "no run" if is_skipped else f"{runs} when the gap ends"
            return f"{_listed(walls)} {does} not exist {on} (clocks go forward): {end}"
    return ""


def _left_out(rule: Cron, change: Change) -> list[datetime]:
    """The wall minutes of fixed-time expressions that a change leaves out."""
    found = set()
    for expression in rule.parsed:
        wall = None if expression.is_real_time else next_wall(expression, minute_before(change.stops) + MINUTE)
        while wall is not None and change.leaves_out(wall):
            found.add(wall)
            wall = next_wall(expression, wall + MINUTE)
    return sorted(found)


def _of_repetition(rule: Cron, tick: datetime) -> str:
    wall = floor(zones.wall_at(rule.zone, tick))
    for change in zones.changes_near(rule.zone, tick):
        if change.repeats(wall):
            fold, told = (LAST, "the first time") if tick < change.at else (FIRST, "the second time")
            other, _ = zones.instant_of(rule.zone, wall + (tick - floor(tick)), fold=fold)
            times = "both times" if latest_until(rule, other, anchor=BEGIN) == other else told
            return f"{wall:%H:%M} occurs twice that day (clocks go back): runs {times}"
    return ""


def _listed(walls: Sequence[datetime]) -> str:
    shown = [f"{wall:%H:%M}" for wall in walls]
    if len(shown) > 3:  # noqa: PLR2004  more than one reads in a line
        return f"{shown[0]} to {shown[-1]}"
    return " and ".join(filter(None, (", ".join(shown[:-1]), shown[-1])))
