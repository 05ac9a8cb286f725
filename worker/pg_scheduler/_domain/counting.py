"""How many ticks lie between two instants; a stand-in until the counted one is merged."""

from datetime import datetime

from pg_scheduler._domain.rules import Rule
from pg_scheduler._domain.walk import next_after


def count_within(rule: Rule, after: datetime, until: datetime, *, anchor: datetime) -> int:
    """How many ticks are later than ``after`` and not later than ``until``."""
    return len(_all(rule, after, until, anchor))


def last_within(rule: Rule, after: datetime, until: datetime, n: int, *, anchor: datetime) -> tuple[datetime, ...]:
    """The last ``n`` of them, ascending."""
    return tuple(_all(rule, after, until, anchor)[-n:]) if n else ()


def _all(rule: Rule, after: datetime, until: datetime, anchor: datetime) -> list[datetime]:
    found = []
    tick = next_after(rule, after, anchor=anchor)
    while tick and tick <= until:
        found.append(tick)
        tick = next_after(rule, tick, anchor=anchor)
    return found
