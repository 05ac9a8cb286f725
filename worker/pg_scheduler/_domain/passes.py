"""One way through the wall minutes of an expression, as instants of a zone.

Invariant: the instants of a pass ascend as its wall minutes do. A clock that is set back shows some minutes twice: the
first times of all minutes ascend, and so do the last times; a pass takes one of them. A minute that the clock leaves
out has the end of the gap as its time, in both passes.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from zoneinfo import ZoneInfo

from pg_scheduler._domain.cron_fields import Expression
from pg_scheduler._domain.walls import MINUTE, floor, minute_before, next_wall, previous_wall
from pg_scheduler._domain.zones import Change, changes_near, instant_of, wall_at

FIRST: Literal[0] = 0
LAST: Literal[1] = 1
GAPS_MAX = 40
"""A rule that only ever falls into gaps has come to its end after so many. Days and clocks repeat with the shape of the
year, and of a rule that ticks once a year forty years in a row have every shape."""


@dataclass(frozen=True, slots=True)
class Pass:
    """The ticks of an expression at the first or at the last times of its minutes.

    Attributes:
        fold: ``FIRST`` or ``LAST``.
        fills_gaps: whether a minute that the clock leaves out ticks at the end of the gap, or not at all.
    """

    expression: Expression
    zone: ZoneInfo
    fold: Literal[0, 1]
    fills_gaps: bool

    def next_after(self, instant: datetime) -> datetime | None:
        """The first tick later than ``instant``; None at the end of time, or of the rule."""
        wall = next_wall(self.expression, self._reached(instant) + MINUTE)
        for _ in range(GAPS_MAX):
            at, gap = self._resolved(wall)
            if gap is None:
                return at
            wall = next_wall(self.expression, minute_before(gap.resumes) + MINUTE)
        return None

    def latest_until(self, instant: datetime) -> datetime | None:
        """The last tick not later than ``instant``; None at the beginning of time, or of the rule."""
        wall = previous_wall(self.expression, self._reached(instant))
        for _ in range(GAPS_MAX):
            at, gap = self._resolved(wall)
            if gap is None:
                return at
            wall = previous_wall(self.expression, minute_before(gap.stops))
        return None

    def _resolved(self, wall: datetime | None) -> tuple[datetime | None, Change | None]:
        """The tick of a wall minute, if there is one; the gap that it is lost in, if it is."""
        if wall is None:
            return None, None
        at, gap = instant_of(self.zone, wall, fold=self.fold)
        return (None, gap) if gap and not self.fills_gaps else (at, None)

    def _reached(self, instant: datetime) -> datetime:
        """The last wall minute whose time is not later than ``instant``."""
        shown, changes = floor(wall_at(self.zone, instant)), changes_near(self.zone, instant)
        if self.fold == FIRST:  # what was shown before the clock was set back is over
            return max([shown, *(minute_before(change.stops) for change in changes if change.at <= instant)])
        return min([shown, *(minute_before(change.resumes) for change in changes if change.at > instant)])
