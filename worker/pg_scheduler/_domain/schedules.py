"""A schedule as its source wants it, as its row stands, and what a definition changes.

Invariants: a new rule and a resumption set a new anchor, and nothing before it fires; a new template alone keeps the
grid; a lower generation changes nothing; code never lifts a suspension.
"""

from dataclasses import dataclass, field, replace
from datetime import datetime

from pg_scheduler._domain.ledger import Passed, Passing, passed
from pg_scheduler._domain.policies import History, Policy
from pg_scheduler._domain.rules import Bounds, Rule
from pg_scheduler._domain.walk import latest_until, next_within
from pg_scheduler.job_template import Deletion

CODE = "code"
"""Source of what ``@periodic`` declares."""
RUNTIME = "runtime"
"""Source of what a program makes while it runs."""
LIBRARY = (CODE, RUNTIME)
"""Sources that do not know of suspensions: a row's own stays whatever they write."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleKey:
    """Who owns the row: a kind (``code`` or the kind of a custom resource), its cluster, and its identity there."""

    tenant: str
    kind: str
    cluster: str
    uid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """What each tick runs; ``payload`` is the encoded arguments, ``priority`` the stored number.

    ``retry_policy``, ``tags`` and ``metadata`` are JSON text.
    """

    task: str
    job_name: str
    payload: str
    queue: str
    priority: int
    max_retries: int
    timeout_seconds: float | None = None
    retry_policy: str | None = None
    on_interrupt: str = "retry"
    tags: str | None = None
    metadata: str | None = None
    concurrency_key: str | None = None
    concurrency_limit: int | None = None
    keep_result: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleDefinition:
    """One schedule as its source wants it.

    Attributes:
        enabled: what the source says; code's ``@periodic(enabled=…)``.
        suspended: what people say of it, for the whole fleet. A resource carries it in its spec; code does not know.
        suspend_reason: why, in their words; empty while it is not suspended.
        history: how many rows of ended jobs are kept; None leaves them to the retention by age.
        deletion: what becomes of its jobs when it is deleted.
    """

    key: ScheduleKey
    name: str
    generation: int
    rule: Rule
    template: Template
    bounds: Bounds = field(default_factory=Bounds)
    policy: Policy = field(default_factory=Policy)
    history: History | None = None
    deletion: Deletion = Deletion.CANCEL_PENDING
    enabled: bool = True
    suspended: bool = False
    suspend_reason: str = ""

    @property
    def runs(self) -> bool:
        """Whether its source and people let it tick."""
        return self.enabled and not self.suspended


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredSchedule:
    """One row; instants by the database's clock.

    Attributes:
        last_tick_at: the high-water mark: every tick up to it has a job or is told of in the ledger.
        last_run_tick_at: the last tick that has, or had, a job.
        ticks: how many have been planned.
        runs: how many of them have, or had, a job.
        retired: no living worker had declared it for a day.
        halted: too many of its runs failed in a row.
    """

    id: int
    definition: ScheduleDefinition
    anchor_at: datetime
    last_tick_at: datetime | None
    next_tick_at: datetime | None
    ticks: int
    last_run_tick_at: datetime | None = None
    runs: int = 0
    retired: bool = False
    halted: bool = False

    @property
    def mark(self) -> datetime:
        """The instant up to which nothing is owed."""
        return self.anchor_at if self.last_tick_at is None else max(self.last_tick_at, self.anchor_at)

    @property
    def is_ticking(self) -> bool:
        """Whether its ticks become jobs."""
        return self.definition.runs and not self.retired and not self.halted

    @property
    def runs_left(self) -> int | None:
        """How many more runs its bounds allow; None without limit."""
        limit = self.definition.bounds.max_runs
        return None if limit is None else max(0, limit - self.runs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Where the ticks of a row stand after a change; ticks later than the change are taken back and planned anew."""

    anchor_at: datetime
    last_tick_at: datetime | None
    next_tick_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What a change of a row writes: its grid, and the ticks that passed meanwhile and will never run."""

    grid: Grid
    passed: tuple[Passed, ...] = ()


def first_grid(definition: ScheduleDefinition, now: datetime) -> Grid:
    """The grid of a new row: anchored at the whole second of ``now``."""
    return _anchored(definition, now, last=None, made=0)


def declared(row: StoredSchedule, definition: ScheduleDefinition) -> ScheduleDefinition:
    """``definition`` as it may be written: what code declares keeps the row's suspension."""
    if definition.key.kind not in LIBRARY:
        return definition
    return replace(definition, suspended=row.definition.suspended, suspend_reason=row.definition.suspend_reason)


def suspension(row: StoredSchedule, *, suspended: bool, reason: str = "") -> ScheduleDefinition:
    """The row's definition with the fleet-wide suspension set or lifted.

    Lifting it also enables what code had declared as ``enabled=False``: somebody asked for it to run, which holds until
    code is started that says otherwise.
    """
    enabled = row.definition.enabled or not suspended
    return replace(row.definition, suspended=suspended, suspend_reason=reason if suspended else "", enabled=enabled)


def is_changed(row: StoredSchedule, definition: ScheduleDefinition, *, resumes: bool = False) -> bool:
    """Whether ``definition`` is to be written.

    Any change lets a halted schedule tick again, and so does ``resumes`` without one.
    """
    if definition.generation < row.definition.generation:
        return False
    return definition != row.definition or row.retired or (resumes and row.halted)


def changed(row: StoredSchedule, definition: ScheduleDefinition, now: datetime) -> Change:
    """What ``definition`` changes in a row whose ticks ahead have been taken back."""
    last = last_made(row, now)
    if _is_other_rule(row.definition, definition) or (definition.runs and not row.is_ticking):
        return Change(grid=_anchored(definition, now, last, row.runs), passed=_never_run(row, last, now))
    return Change(grid=Grid(anchor_at=row.anchor_at, last_tick_at=last, next_tick_at=_next(definition, row, now)))


def is_planned_otherwise(row: StoredSchedule) -> bool:
    """Whether other zone data than that of this process has planned the row's next tick, and elsewhere."""
    return _planned_after(row, row.mark) != row.next_tick_at


def replanned(row: StoredSchedule, now: datetime) -> Grid:
    """The grid by the zone data of this process, of a row whose ticks ahead have been taken back."""
    last = last_made(row, now)
    following = _planned_after(row, max(last or row.anchor_at, row.anchor_at))
    return Grid(anchor_at=row.anchor_at, last_tick_at=last, next_tick_at=following)


def _planned_after(row: StoredSchedule, instant: datetime) -> datetime | None:
    return _next_within(row.definition, instant, row.anchor_at, row.runs) if row.is_ticking else None


def _is_other_rule(old: ScheduleDefinition, new: ScheduleDefinition) -> bool:
    return (old.rule, old.bounds) != (new.rule, new.bounds)


def _anchored(definition: ScheduleDefinition, now: datetime, last: datetime | None, made: int) -> Grid:
    anchor = now.replace(microsecond=0)
    following = _next_within(definition, now, anchor, made) if definition.runs else None
    return Grid(anchor_at=anchor, last_tick_at=last, next_tick_at=following)


def last_made(row: StoredSchedule, now: datetime) -> datetime | None:
    """The high-water mark of a row whose ticks ahead have been taken back."""
    if row.last_tick_at is None or row.last_tick_at <= now:
        return row.last_tick_at
    return latest_until(row.definition.rule, now, anchor=row.anchor_at)


def _never_run(row: StoredSchedule, last: datetime | None, now: datetime) -> tuple[Passed, ...]:
    """What the old rule planned since the mark: a new anchor forgets it."""
    if row.runs_left == 0:
        return ()
    outcome, reason = _why_not(row)
    return passed(
        outcome,
        reason,
        rule=row.definition.rule,
        bounds=row.definition.bounds,
        anchor=row.anchor_at,
        after=max(last or row.anchor_at, row.anchor_at),
        until=now,
    )


def _why_not(row: StoredSchedule) -> tuple[Passing, str]:
    if row.retired:
        return "missed", "no worker declared the schedule"
    if row.halted:
        return "skipped_suspended", "suspended after failures in a row"
    if row.definition.suspended:
        return "skipped_suspended", row.definition.suspend_reason or "suspended"
    if not row.definition.enabled:
        return "skipped_suspended", "disabled by its code"
    return "missed", "the rule was changed before anybody ran them"


def _next(definition: ScheduleDefinition, row: StoredSchedule, now: datetime) -> datetime | None:
    if not definition.runs:
        return None
    if row.next_tick_at is not None and row.next_tick_at <= now:
        return row.next_tick_at
    return _next_within(definition, now, row.anchor_at, row.runs)


def _next_within(definition: ScheduleDefinition, after: datetime, anchor: datetime, made: int) -> datetime | None:
    return next_within(definition.rule, definition.bounds, after, anchor=anchor, made=made)
