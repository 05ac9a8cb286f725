"""Ticks that had no run of their own, told in ranges.

Invariant: a range counts what the rule plans between its ends, no more and no less.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from pg_scheduler._domain.counting import count_within, last_within
from pg_scheduler._domain.rules import Bounds, Rule
from pg_scheduler._domain.walk import next_after, within

Passing = Literal["coalesced", "missed", "skipped_suspended"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Passed:
    """Ticks without a job: what became of them, the first and the last, how many, and why."""

    outcome: Passing
    first_at: datetime
    last_at: datetime
    ticks: int
    reason: str


def passed(
    outcome: Passing,
    reason: str,
    *,
    rule: Rule,
    bounds: Bounds,
    anchor: datetime,
    after: datetime,
    until: datetime,
) -> tuple[Passed, ...]:
    """The ticks later than ``after`` and not later than ``until``, as one range; empty where there are none."""
    after, until = within(bounds, after, until)
    first = next_after(rule, after, anchor=anchor)
    if first is None or first > until:
        return ()
    (last,) = last_within(rule, after, until, 1, anchor=anchor)
    ticks = count_within(rule, after, until, anchor=anchor)
    return (Passed(outcome=outcome, first_at=first, last_at=last, ticks=ticks, reason=reason),)
