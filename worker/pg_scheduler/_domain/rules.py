"""Rules that produce ticks, and what is refused.

Invariant: a rule that exists has been checked; it parses, and it fires.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from importlib import resources

from cronsim import CronSim, CronSimError

from pg_scheduler.errors import InvalidSchedule

EVERY_SECONDS_MAX = 366 * 24 * 3600
EXPRESSIONS_MAX = 16
EXPRESSION_CHARACTERS_MAX = 128
SERVED_ZONES = frozenset({"Etc/UTC", "UTC"})
NICKNAMES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_FIVE_FIELDS = "give five fields: minute hour day-of-month month day-of-week"


@dataclass(frozen=True, slots=True)
class Interval:
    """Ticks at ``anchor + n * every_seconds`` for n = 1, 2, …, on a fixed grid whatever the jobs take.

    Raises:
        InvalidSchedule: not a whole number of seconds between 1 and 366 days.
    """

    every_seconds: int

    def __post_init__(self) -> None:
        seconds: object = self.every_seconds
        if not isinstance(seconds, int) or isinstance(seconds, bool) or not 1 <= seconds <= EVERY_SECONDS_MAX:
            raise InvalidSchedule(
                f"an interval of {str(seconds)[:40]} seconds",
                field="intervalSeconds",
                fix=f"give a whole number of seconds from 1 to {EVERY_SECONDS_MAX}",
            )

    @property
    def every(self) -> timedelta:
        """The interval as a duration."""
        return timedelta(seconds=self.every_seconds)


@dataclass(frozen=True, slots=True)
class Cron:
    """Ticks at the union of five-field cron expressions, read in an IANA zone.

    Raises:
        InvalidSchedule: none or more than 16 expressions, one that does not parse or never fires, or a zone that does
        not
            exist or is not served yet.
    """

    expressions: tuple[str, ...]
    time_zone: str = "Etc/UTC"

    def __post_init__(self) -> None:
        if not 1 <= len(self.expressions) <= EXPRESSIONS_MAX:
            raise InvalidSchedule(
                f"{len(self.expressions)} cron expressions", field="cron", fix=f"give 1 to {EXPRESSIONS_MAX}"
            )
        for index, expression in enumerate(self.expressions):
            _check_expression(expression, f"cron[{index}]")
        _check_zone(self.time_zone)


Rule = Interval | Cron


def fields_of(expression: str) -> str:
    """The five fields of an expression or of a nickname such as ``@daily``."""
    return NICKNAMES.get(expression.strip().lower(), expression)


def _check_expression(expression: str, field: str) -> None:
    if len(expression) > EXPRESSION_CHARACTERS_MAX:
        raise InvalidSchedule(
            f"a cron expression of {len(expression)} characters",
            field=field,
            fix=f"give at most {EXPRESSION_CHARACTERS_MAX}; several expressions may be given",
        )
    fields = fields_of(expression)
    if not fields.isascii():
        raise InvalidSchedule(f"{expression!r} holds characters outside ASCII", field=field, fix="type plain digits")
    if len(fields.split()) != 5:  # noqa: PLR2004  the five fields of a cron expression
        raise InvalidSchedule(f"{expression!r} is not a cron expression", field=field, fix=_FIVE_FIELDS)
    _check_fires(fields, expression, field)


def _check_fires(fields: str, expression: str, field: str) -> None:
    try:
        next(CronSim(fields, datetime(2024, 1, 1, tzinfo=UTC)))
    except CronSimError as error:
        message = f"{expression!r}: {str(error)[:1].lower()}{str(error)[1:]}"
        raise InvalidSchedule(message, field=field, fix=_FIVE_FIELDS) from error
    except StopIteration as error:
        raise InvalidSchedule(f"{expression!r} never fires", field=field, why="no year has such a day") from error


def _check_zone(name: str) -> None:
    if name in SERVED_ZONES:
        return
    if name in zone_names():
        raise InvalidSchedule(
            f"time zone {name!r} is not served yet",
            field="timeZone",
            why="this release ticks in UTC only",
            fix="write the rule in UTC and leave the zone out",
            reason="ZoneNotYetServed",
        )
    raise InvalidSchedule(
        f"there is no time zone {name[:64]!r}", field="timeZone", fix="give an IANA name such as Europe/Berlin"
    )


@lru_cache(maxsize=1)
def zone_names() -> frozenset[str]:
    """Every name that the PyPI package ``tzdata`` knows; the machine's own zone files are never asked."""
    return frozenset(resources.files("tzdata").joinpath("zones").read_text(encoding="utf-8").split())
