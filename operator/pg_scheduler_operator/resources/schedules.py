"""When a PeriodicJob ticks, and the words of manifests for what becomes of ticks.

Invariant: what the schema takes the library takes too, but for cron, its seconds, the zone, and a jitter beside cron,
which only the library can judge.
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from itertools import islice, pairwise
from typing import TYPE_CHECKING, Annotated, Final

from pydantic import AfterValidator, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from pg_scheduler.errors import InvalidSchedule
from pg_scheduler.recurrence import EVERY_SECONDS_MAX, JITTER_SECONDS_MAX, Cron, Interval, next_after
from pg_scheduler_operator.resources.model import BEFORE_9999, Instant, Model, before_9999, cel, rules

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pg_scheduler.recurrence import Ambiguous, Missed, Nonexistent, Overlap, Rule

CronExpression = Annotated[str, Field(min_length=1, max_length=128)]

_YEAR_1970: Final = datetime(1970, 1, 1, tzinfo=UTC)


def _from_1970(value: datetime) -> datetime:
    if value < _YEAR_1970:
        raise ValueError("must not be before the year 1970")
    return value


_BOUND_RULES: Final = rules(
    cel("self >= timestamp('1970-01-01T00:00:00Z')", "must not be before the year 1970"), BEFORE_9999
)
BoundaryInstant = Annotated[Instant, AfterValidator(before_9999), AfterValidator(_from_1970)]


class NonexistentTimePolicy(StrEnum):
    """What becomes of a minute that the clocks leave out."""

    SHIFT_FORWARD = "ShiftForward"
    SKIP = "Skip"


class AmbiguousTimePolicy(StrEnum):
    """Which of a minute's two times tick."""

    FIRST = "First"
    LAST = "Last"
    BOTH = "Both"


class OverlapPolicy(StrEnum):
    """What becomes of a tick whose predecessor's job has not ended."""

    SKIP = "Skip"
    QUEUE = "Queue"
    REPLACE = "Replace"
    ALLOW = "Allow"


class MissedRunPolicy(StrEnum):
    """What becomes of ticks that passed while no worker lived."""

    RUN_LATEST = "RunLatest"
    SKIP = "Skip"
    RUN_ALL = "RunAll"


_NONEXISTENT: Final[Mapping[NonexistentTimePolicy, Nonexistent]] = {
    NonexistentTimePolicy.SHIFT_FORWARD: "shift_forward",
    NonexistentTimePolicy.SKIP: "skip",
}
_AMBIGUOUS: Final[Mapping[AmbiguousTimePolicy, Ambiguous]] = {
    AmbiguousTimePolicy.FIRST: "first",
    AmbiguousTimePolicy.LAST: "last",
    AmbiguousTimePolicy.BOTH: "both",
}
OVERLAP: Final[Mapping[OverlapPolicy, Overlap]] = {
    OverlapPolicy.SKIP: "skip",
    OverlapPolicy.QUEUE: "queue",
    OverlapPolicy.REPLACE: "replace",
    OverlapPolicy.ALLOW: "allow",
}
MISSED: Final[Mapping[MissedRunPolicy, Missed]] = {
    MissedRunPolicy.RUN_LATEST: "run_latest",
    MissedRunPolicy.SKIP: "skip",
    MissedRunPolicy.RUN_ALL: "run_all",
}
"""Manifests' words in the library's."""

_ONE_OF: Final = "give exactly one of cron and intervalSeconds"
_SECONDS: Final = "seconds goes with cron only; an interval is in seconds already"
_PHASE: Final = "phaseSeconds goes with intervalSeconds only, and must be below it"
_JITTER: Final = "jitterSeconds must be below intervalSeconds"
_END: Final = "endTime must be after startTime"


class ScheduleSpec(Model):
    """When a PeriodicJob ticks: exactly one of cron and intervalSeconds."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            cel("has(self.cron) != has(self.intervalSeconds)", _ONE_OF),
            cel("!has(self.seconds) || has(self.cron)", _SECONDS, ".seconds"),
            cel(
                "!has(self.phaseSeconds) || (has(self.intervalSeconds) && self.phaseSeconds < self.intervalSeconds)",
                _PHASE,
                ".phaseSeconds",
            ),
            cel(
                "!has(self.jitterSeconds) || !has(self.intervalSeconds) || self.jitterSeconds < self.intervalSeconds",
                _JITTER,
                ".jitterSeconds",
            ),
            cel("!has(self.startTime) || !has(self.endTime) || self.startTime < self.endTime", _END, ".endTime"),
        )
    )

    cron: Annotated[tuple[CronExpression, ...], Field(strict=False)] | None = Field(
        default=None,
        min_length=1,
        max_length=16,
        description="Cron expressions of five fields; the schedule ticks at the union of them.",
    )
    seconds: str | None = Field(
        default=None,
        min_length=1,
        max_length=128,
        description='Beside cron: the field of the seconds at which each matching minute ticks, such as "0,30"; unset'
        " means at second 0.",
    )
    interval_seconds: int | None = Field(
        default=None,
        ge=1,
        le=EVERY_SECONDS_MAX,
        description="Seconds from tick to tick, on a fixed grid that never drifts.",
    )
    phase_seconds: int | None = Field(
        default=None,
        ge=0,
        le=EVERY_SECONDS_MAX - 1,
        description="Beside intervalSeconds, and below it: how many seconds after each point of the grid it ticks.",
    )
    time_zone: str = Field(
        default="Etc/UTC",
        min_length=1,
        max_length=64,
        description="IANA zone that cron is read in, such as Europe/Berlin; never the machine's zone.",
    )
    nonexistent_time_policy: NonexistentTimePolicy = Field(
        default=NonexistentTimePolicy.SHIFT_FORWARD,
        description="What becomes of a matching minute that does not exist, as clocks go forward. ShiftForward: it"
        " ticks at the end of the gap. Skip: it does not tick. Rules for every hour never ask.",
    )
    ambiguous_time_policy: AmbiguousTimePolicy = Field(
        default=AmbiguousTimePolicy.FIRST,
        description="Which of its two times a matching minute ticks at that comes twice, as clocks go back: First,"
        " Last or Both. Rules for every hour never ask.",
    )
    jitter_seconds: int = Field(
        default=0,
        ge=0,
        le=JITTER_SECONDS_MAX,
        description="A run becomes due up to so many seconds after its tick, the same for the same tick on every"
        " worker. It must be less than the shortest time between two ticks.",
    )
    start_time: BoundaryInstant | None = Field(
        default=None,
        description="No tick is earlier than this, such as 2026-12-01T00:00:00Z.",
        json_schema_extra=_BOUND_RULES,
    )
    end_time: BoundaryInstant | None = Field(
        default=None,
        description="No tick is later than this; it must be after startTime.",
        json_schema_extra=_BOUND_RULES,
    )

    @field_validator("seconds")
    @classmethod
    def _beside_cron(cls, value: str, info: ValidationInfo) -> str:
        if info.data.get("cron") is None:
            raise ValueError(_SECONDS)
        return value

    @field_validator("phase_seconds")
    @classmethod
    def _within_interval(cls, value: int, info: ValidationInfo) -> int:
        interval = info.data.get("interval_seconds")
        if interval is None or value >= interval:
            raise ValueError(_PHASE)
        return value

    @field_validator("jitter_seconds")
    @classmethod
    def _below_interval(cls, value: int, info: ValidationInfo) -> int:
        interval = info.data.get("interval_seconds")
        if interval is not None and value >= interval:
            raise ValueError(_JITTER)
        return value

    @field_validator("end_time")
    @classmethod
    def _after_start(cls, value: datetime, info: ValidationInfo) -> datetime:
        start = info.data.get("start_time")
        if start is not None and value <= start:
            raise ValueError(_END)
        return value

    @model_validator(mode="after")
    def _one_of(self) -> ScheduleSpec:
        if (self.cron is None) == (self.interval_seconds is None):
            raise ValueError(_ONE_OF)
        return self

    @property
    def rule(self) -> Rule:
        """The same in the library's words.

        Raises:
            InvalidSchedule: ``cron[i]``, ``seconds`` or ``timeZone`` is none; its ``field`` is a field of this spec.
        """
        if self.interval_seconds is not None:
            return Interval(self.interval_seconds, self.phase_seconds or 0)
        return Cron(
            self.cron or (),
            self.time_zone,
            self.seconds or "0",
            _NONEXISTENT[self.nonexistent_time_policy],
            _AMBIGUOUS[self.ambiguous_time_policy],
        )

    def check_jitter(self) -> None:
        """Refuse a jitter that would let a run become due after the next one.

        Raises:
            InvalidSchedule: two ticks of cron lie closer together; or the rule is none.
        """
        if self.cron is None or self.jitter_seconds == 0:
            return
        gap = _shortest_gap_seconds(self.rule)
        if self.jitter_seconds >= gap:
            raise InvalidSchedule(
                f"a jitter of {self.jitter_seconds} seconds",
                field="jitterSeconds",
                why=f"two ticks lie {gap} seconds apart",
                fix=f"give less than {gap}",
            )


_LOOKED_FROM: Final = datetime(2024, 1, 1, tzinfo=UTC)
_LOOKED_UNTIL: Final = datetime(2026, 1, 1, tzinfo=UTC)
_LOOKED_AT: Final = 400
"""Ticks whose gaps are looked at: a daily rule for more than a year, with its nights of clock changes."""


@lru_cache(maxsize=1024)
def _shortest_gap_seconds(rule: Rule) -> int:
    gaps = (int((tick - before).total_seconds()) for before, tick in pairwise(islice(_ticks(rule), _LOOKED_AT)))
    return min(gaps, default=JITTER_SECONDS_MAX + 1)


def _ticks(rule: Rule) -> Iterator[datetime]:
    tick = next_after(rule, _LOOKED_FROM, anchor=_LOOKED_FROM)
    while tick is not None and tick < _LOOKED_UNTIL:
        yield tick
        tick = next_after(rule, tick, anchor=_LOOKED_FROM)
