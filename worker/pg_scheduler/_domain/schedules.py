"""A schedule as its source wants it, as its row stands, and what a definition changes.

Invariants: a new rule and a resumption set a new anchor, and nothing before it fires; a new template alone keeps the
grid; a lower generation changes nothing; code never lifts a suspension.
"""

from dataclasses import dataclass, replace
from datetime import datetime

from pg_scheduler._domain.rules import Rule
from pg_scheduler._domain.walk import latest_until, next_after

CODE = "code"


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


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleDefinition:
    """One schedule as its source wants it.

    Attributes:
        enabled: what the source says; code's ``@periodic(enabled=…)``.
        suspended: what people say of it, for the whole fleet. A resource carries it in its spec; code does not know.
    """

    key: ScheduleKey
    name: str
    generation: int
    rule: Rule
    template: Template
    enabled: bool = True
    suspended: bool = False

    @property
    def runs(self) -> bool:
        """Whether it ticks at all."""
        return self.enabled and not self.suspended


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredSchedule:
    """One row; instants by the database's clock.

    ``retired``: no living worker had declared it for a day.
    """

    id: int
    definition: ScheduleDefinition
    anchor_at: datetime
    last_tick_at: datetime | None
    next_tick_at: datetime | None
    ticks: int
    retired: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Where the ticks of a row stand after a change; ticks later than the change are taken back and planned anew."""

    anchor_at: datetime
    last_tick_at: datetime | None
    next_tick_at: datetime | None


def first_grid(definition: ScheduleDefinition, now: datetime) -> Grid:
    """The grid of a new row: anchored at the whole second of ``now``."""
    return _anchored(definition, now, last=None)


def declared(row: StoredSchedule, definition: ScheduleDefinition) -> ScheduleDefinition:
    """``definition`` as it may be written: what code declares keeps the row's suspension."""
    if definition.key.kind != CODE:
        return definition
    return replace(definition, suspended=row.definition.suspended)


def suspension(row: StoredSchedule, *, suspended: bool) -> ScheduleDefinition:
    """The row's definition with the fleet-wide suspension set or lifted.

    Lifting it also enables what code had declared as ``enabled=False``: somebody asked for it to run, which holds until
    code is started that says otherwise.
    """
    return replace(row.definition, suspended=suspended, enabled=row.definition.enabled or not suspended)


def changed_grid(row: StoredSchedule, definition: ScheduleDefinition, now: datetime) -> Grid | None:
    """The grid after ``definition``; None when the row is to stay as it is."""
    if definition.generation < row.definition.generation or (definition == row.definition and not row.retired):
        return None
    last = _last_made(row, now)
    if definition.rule != row.definition.rule or (definition.runs and not row.definition.runs):
        return _anchored(definition, now, last)
    return Grid(anchor_at=row.anchor_at, last_tick_at=last, next_tick_at=_next(definition, row, now))


def _anchored(definition: ScheduleDefinition, now: datetime, last: datetime | None) -> Grid:
    anchor = now.replace(microsecond=0)
    following = next_after(definition.rule, now, anchor=anchor) if definition.runs else None
    return Grid(anchor_at=anchor, last_tick_at=last, next_tick_at=following)


def _last_made(row: StoredSchedule, now: datetime) -> datetime | None:
    if row.last_tick_at is None or row.last_tick_at <= now:
        return row.last_tick_at
    return latest_until(row.definition.rule, now, anchor=row.anchor_at)


def _next(definition: ScheduleDefinition, row: StoredSchedule, now: datetime) -> datetime | None:
    if not definition.runs:
        return None
    if row.next_tick_at is not None and row.next_tick_at <= now:
        return row.next_tick_at
    return next_after(definition.rule, now, anchor=row.anchor_at)
