"""What is simulated: schedules and jobs, the fleet that runs them, and what happens meanwhile.

Invariant: a value that exists has been checked; instants are aware, durations finite.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime

from pg_scheduler._domain.policies import Policy
from pg_scheduler._domain.rules import Bounds, Rule
from pg_scheduler._domain.schedules import ScheduleDefinition, ScheduleKey, Template
from pg_scheduler.errors import InvalidArgument
from pg_scheduler.job_priority import JobPriority

SECONDS_MAX = 366 * 24 * 3600
SLOTS_MAX = 1_000_000

Takes = float | Callable[[datetime], float]
"""Seconds that a run takes, or a function of its planned instant that answers them."""
Fails = bool | Callable[[datetime, int], bool]
"""Whether a run fails, or a function of its planned instant and of the attempt, counted from 1."""


def definition(
    name: str,
    rule: Rule,
    *,
    bounds: Bounds | None = None,
    policy: Policy | None = None,
    priority: JobPriority = JobPriority.NORMAL,
    max_retries: int = 0,
    suspended: bool = False,
    suspend_reason: str = "",
) -> ScheduleDefinition:
    """A schedule as a simulation looks at it: without a task, arguments or an owner."""
    return ScheduleDefinition(
        key=ScheduleKey(tenant="", kind="simulated", cluster="", uid=name),
        name=name,
        generation=1,
        rule=rule,
        bounds=bounds or Bounds(),
        policy=policy or Policy(),
        template=Template(
            task="",
            job_name=name,
            payload="{}",
            queue="default",
            priority=priority.db_value,
            max_retries=max_retries,
        ),
        suspended=suspended,
        suspend_reason=suspend_reason,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedSchedule:
    """A schedule that is there from the beginning, and what its runs are like.

    Raises:
        InvalidArgument: a duration that is no number of seconds from 0 to 366 days.
    """

    definition: ScheduleDefinition
    takes_seconds: Takes = 1.0
    fails: Fails = False

    def __post_init__(self) -> None:
        _require_duration(self.takes_seconds)

    @property
    def name(self) -> str:
        """The name in the trace; no two of a simulation share one."""
        return self.definition.name


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedJob:
    """A job that runs once.

    Raises:
        InvalidArgument: an instant without a zone, or a duration that is no number of seconds from 0 to 366 days.
    """

    name: str
    run_at: datetime
    takes_seconds: Takes = 1.0
    fails: Fails = False
    priority: JobPriority = JobPriority.NORMAL
    starting_deadline_seconds: int | None = None

    def __post_init__(self) -> None:
        _require_duration(self.takes_seconds)
        require_aware("run_at", self.run_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """The workers that run everything.

    Attributes:
        slots: jobs that one worker runs at a time; None without limit.
        workers: how many there are.
        poll_seconds: how far ahead of a tick its job is made.
        lease_seconds: workers that are away for so long, or longer, leave jobs behind that can be too late.

    Raises:
        InvalidArgument: a number out of its range.
    """

    slots: int | None = None
    workers: int = 1
    poll_seconds: float = 5.0
    lease_seconds: float = 60.0

    def __post_init__(self) -> None:
        for name, count in (("slots", self.slots), ("workers", self.workers)):
            if count is not None and not 1 <= count <= SLOTS_MAX:
                raise InvalidArgument(f"{name} is {count}", fix=f"give a whole number from 1 to {SLOTS_MAX:,}")
        for name, seconds in (("poll_seconds", self.poll_seconds), ("lease_seconds", self.lease_seconds)):
            require_seconds(name, seconds)

    @property
    def all_slots(self) -> int | None:
        """Jobs that run at a time; None without limit."""
        return None if self.slots is None else self.slots * self.workers


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage:
    """No worker makes or starts jobs; ends of runs become known when it is over."""

    begins_at: datetime
    ends_at: datetime

    def __post_init__(self) -> None:
        require_aware("begins_at", self.begins_at)
        require_aware("ends_at", self.ends_at)
        if self.ends_at <= self.begins_at:
            raise InvalidArgument(f"an outage until {self.ends_at}", why=f"it begins at {self.begins_at}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspend:
    """Somebody suspends a schedule."""

    at: datetime
    schedule: str
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resume:
    """Somebody resumes it; one that was halted after failures, too."""

    at: datetime
    schedule: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """Its source writes another definition."""

    at: datetime
    schedule: str
    definition: ScheduleDefinition


Happening = Outage | Suspend | Resume | Edit


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """All of it, from one instant to another."""

    begins_at: datetime
    ends_at: datetime
    schedules: tuple[SimulatedSchedule, ...]
    jobs: tuple[SimulatedJob, ...] = ()
    fleet: Fleet = field(default_factory=Fleet)
    happenings: tuple[Happening, ...] = ()

    def __post_init__(self) -> None:
        require_aware("begins_at", self.begins_at)
        require_aware("ends_at", self.ends_at)
        names = [*(each.name for each in self.schedules), *(each.name for each in self.jobs)]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise InvalidArgument(f"two are called {twice[:63]!r}", fix="give each schedule and job a name of its own")
        known = {each.name for each in self.schedules}
        for each in self.happenings:
            if not isinstance(each, Outage):
                require_aware("at", each.at)
                if each.schedule not in known:
                    raise InvalidArgument(f"there is no schedule {each.schedule[:63]!r} for something to happen to")

    def definitions(self) -> Iterator[tuple[datetime, ScheduleDefinition]]:
        """Every definition that counts at some time, and since when."""
        for schedule in self.schedules:
            yield self.begins_at, schedule.definition
        for happening in self.happenings:
            if isinstance(happening, Edit):
                yield happening.at, happening.definition


def require_aware(name: str, instant: datetime) -> None:
    """Refuse an instant without a zone."""
    if instant.tzinfo is None:
        raise InvalidArgument(f"{name} {instant} has no time zone", fix="give one, such as datetime.now(UTC)")


def _require_duration(takes: Takes) -> None:
    if not callable(takes):
        require_seconds("takes_seconds", takes)


def require_seconds(name: str, seconds: float) -> None:
    """Refuse what is no duration up to 366 days."""
    if not math.isfinite(seconds) or not 0 <= seconds <= SECONDS_MAX:
        raise InvalidArgument(f"{name} is {seconds}", fix=f"give seconds from 0 to {SECONDS_MAX:,}")
