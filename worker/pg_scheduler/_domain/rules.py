"""Rules that produce ticks, and what is refused.

Invariant: a rule that exists has been checked; it parses, and it fires.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from hashlib import blake2b
from typing import Literal, get_args
from zoneinfo import ZoneInfo

from pg_scheduler._domain import cron_fields, zones
from pg_scheduler._domain.cron_fields import Expression, Refused, shortened
from pg_scheduler.errors import InvalidSchedule

EVERY_SECONDS_MAX = 3_155_760_000
"""A hundred years."""
JITTER_SECONDS_MAX = 24 * 3600
EXPRESSIONS_MAX = 16
RUNS_MAX = 2**31 - 1

Nonexistent = Literal["shift_forward", "skip"]
Ambiguous = Literal["first", "last", "both"]


@dataclass(frozen=True, slots=True)
class Interval:
    """Ticks later than the anchor at ``anchor + n * every_seconds + phase_seconds``, whatever the jobs take.

    Attributes:
        every_seconds: from tick to tick, up to 100 years.
        phase_seconds: how far the grid lies from the anchor, less than ``every_seconds``. With 0 the first tick is one
            interval after the anchor, else it is so many seconds after it.

    Raises:
        InvalidSchedule: one of them is not a whole number in its range (``field`` is ``intervalSeconds`` or
            ``phaseSeconds``).
    """

    every_seconds: int
    phase_seconds: int = 0

    def __post_init__(self) -> None:
        require_whole("intervalSeconds", self.every_seconds, 1, EVERY_SECONDS_MAX, "an interval of {} seconds")
        require_whole("phaseSeconds", self.phase_seconds, 0, self.every_seconds - 1, "a phase of {} seconds")

    @property
    def every(self) -> timedelta:
        """The interval as a duration."""
        return timedelta(seconds=self.every_seconds)

    def steps(self, elapsed: timedelta) -> int:
        """How many ticks there are until so long after the anchor."""
        return (elapsed + self._lead) // self.every

    def elapsed(self, step: int) -> timedelta:
        """How long after the anchor a tick is, counted from 1."""
        return step * self.every - self._lead

    @property
    def _lead(self) -> timedelta:
        """How long before the anchor the tick would be that is the last not after it."""
        return timedelta(seconds=-self.phase_seconds % self.every_seconds)


@dataclass(frozen=True, slots=True)
class Cron:
    """Ticks at the union of five-field cron expressions, read in an IANA zone.

    A rule whose hour field starts with ``*`` and names several hours, or which names all 24, ticks at every real minute
    that matches. Every other one ticks at each matching minute of the calendar, and says what becomes of the minutes
    that a change of clocks leaves out or repeats.

    Attributes:
        expressions: 1 to 16 of them.
        time_zone: the zone's name.
        seconds: the field of the seconds at which each matching minute ticks.
        nonexistent: what becomes of a minute that is left out: ``shift_forward`` to the end of the gap, or ``skip``.
        ambiguous: which of a minute's two times tick: the ``first``, the ``last``, or ``both``.

    Raises:
        InvalidSchedule: an expression does not parse or never fires (``field`` is ``cron[i]``), the zone does not exist
            (``timeZone``), or another attribute is none of its values.
    """

    expressions: tuple[str, ...]
    time_zone: str = "Etc/UTC"
    seconds: str = "0"
    nonexistent: Nonexistent = "shift_forward"
    ambiguous: Ambiguous = "first"

    def __post_init__(self) -> None:
        if not 1 <= len(self.expressions) <= EXPRESSIONS_MAX:
            raise InvalidSchedule(
                f"{len(self.expressions)} cron expressions", field="cron", fix=f"give 1 to {EXPRESSIONS_MAX}"
            )
        for index, expression in enumerate(self.expressions):
            _check_expression(expression, f"cron[{index}]")
        _check_zone(self.time_zone)
        _check_seconds(self.seconds)
        require_one_of("nonexistent", self.nonexistent, get_args(Nonexistent))
        require_one_of("ambiguous", self.ambiguous, get_args(Ambiguous))

    @property
    def parsed(self) -> tuple[Expression, ...]:
        """The expressions as values."""
        return tuple(map(cron_fields.parsed, self.expressions))

    @property
    def zone(self) -> ZoneInfo:
        """The zone as a value."""
        return zones.zone(self.time_zone)

    @property
    def in_minute(self) -> tuple[timedelta, ...]:
        """The seconds as durations from the minute on, ascending."""
        return _in_minute(self.seconds)


Rule = Interval | Cron


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What holds beside a rule: which of its ticks there are, and how long after its tick a job becomes due.

    Attributes:
        jitter_seconds: a job becomes due up to so many seconds after its tick, the same for the same tick everywhere.
        start_at: no tick is earlier.
        end_at: no tick is later.
        max_runs: there are no more ticks than these; None without limit.

    Raises:
        InvalidSchedule: a number out of its range, an instant without a zone, or an end before the start.
    """

    jitter_seconds: int = 0
    start_at: datetime | None = None
    end_at: datetime | None = None
    max_runs: int | None = None

    def __post_init__(self) -> None:
        require_whole("jitterSeconds", self.jitter_seconds, 0, JITTER_SECONDS_MAX, "a jitter of {} seconds")
        if self.max_runs is not None:
            require_whole("maxRuns", self.max_runs, 1, RUNS_MAX, "a limit of {} runs")
        _require_instant("startAt", self.start_at)
        _require_instant("endAt", self.end_at)
        if self.start_at and self.end_at and self.end_at.astimezone(UTC) < self.start_at.astimezone(UTC):
            raise InvalidSchedule(
                f"an end at {self.end_at} before the start at {self.start_at}", field="endAt", fix="give a later one"
            )

    def due_at(self, tick: datetime, schedule_id: int) -> datetime:
        """When the job of a tick becomes due; spread evenly over the jitter by a hash of both."""
        if not self.jitter_seconds:
            return tick
        instant = tick.astimezone(UTC)  # in a zone, time would be added to what the wall shows
        digest = blake2b(f"{schedule_id} {instant.isoformat()}".encode(), digest_size=8).digest()
        return instant + timedelta(microseconds=int.from_bytes(digest) % (self.jitter_seconds * 1_000_000))


def _check_expression(expression: object, field: str) -> None:
    if not isinstance(expression, str):
        raise InvalidSchedule(
            f"a cron expression that is a {type(expression).__name__}", field=field, fix='give text: "30 2 * * *"'
        )
    try:
        cron_fields.parsed(expression)
    except Refused as refused:
        raise InvalidSchedule(refused.what, field=field, fix=refused.fix) from refused


def _check_seconds(seconds: object) -> None:
    if not isinstance(seconds, str) or len(seconds) > cron_fields.EXPRESSION_CHARACTERS_MAX:
        raise InvalidSchedule(
            f"seconds {shortened(str(seconds))}", field="seconds", fix='give a field of text, such as "0,20,40"'
        )
    try:
        _in_minute(seconds)
    except Refused as refused:
        raise InvalidSchedule(refused.what, field="seconds", fix=refused.fix) from refused


@lru_cache(maxsize=1024)
def _in_minute(seconds: str) -> tuple[timedelta, ...]:
    return tuple(timedelta(seconds=n) for n in sorted(cron_fields.values_of(seconds, cron_fields.SECOND)))


def _check_zone(name: object) -> None:
    if not isinstance(name, str) or not name:
        raise InvalidSchedule("no time zone", field="timeZone", fix="give an IANA name such as Europe/Berlin")
    if name not in zones.names():
        raise InvalidSchedule(
            f"there is no time zone {shortened(name)}",
            field="timeZone",
            fix=f"give an IANA name; the nearest are {', '.join(zones.nearest(name))}",
        )


def require_one_of(field: str, value: object, choices: tuple[str, ...]) -> None:
    """Refuse a word that is none of the choices, with an InvalidSchedule."""
    if value not in choices:
        raise InvalidSchedule(f"{field} {shortened(str(value))}", field=field, fix=f"give one of {', '.join(choices)}")


def require_whole(field: str, value: object, low: int, high: int, what: str) -> None:
    """Refuse what is no whole number in the range, with an InvalidSchedule; ``what`` has a place for the value."""
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        shown = what.format(str(value)[:40])
        raise InvalidSchedule(shown, field=field, fix=f"give a whole number from {low} to {high}")


def _require_instant(field: str, instant: datetime | None) -> None:
    if instant is not None and instant.tzinfo is None:
        raise InvalidSchedule(f"{field} {instant} has no time zone", field=field, fix="give one, such as +00:00")
