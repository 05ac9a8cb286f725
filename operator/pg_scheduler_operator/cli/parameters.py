"""Options of ``simulate`` and ``lint``, as values.

Invariant: a value that leaves here has been checked; importing this module imports click and nothing heavier.
"""

from __future__ import annotations

import math
import re
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

import click

if TYPE_CHECKING:
    from collections.abc import Callable

Topic = Literal["invalid", "never", "overlap", "deadline", "capacity", "clocks", "kubernetes", "arguments"]
TOPICS: Final[tuple[Topic, ...]] = get_args(Topic)
FAIL_ON: Final = "overlap,deadline,capacity"
YEARS: Final = range(1900, 9999)

_HORIZON: Final = re.compile(r"([1-9]\d{0,4})([smhdw])")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class _Instant(click.ParamType):
    """ISO 8601 with its zone: without one it would be another instant on each machine."""

    name = "instant"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        try:
            instant = datetime.fromisoformat(str(value))
        except ValueError:
            self.fail(f"{value!r} is no instant such as 2026-03-08T07:00Z", param, ctx)
        if instant.tzinfo is None:
            self.fail(f"{value!r} has no time zone; write 2026-03-08T07:00Z or 2026-03-08T02:00-05:00", param, ctx)
        if instant.year not in YEARS:
            self.fail(f"give a year from {YEARS[0]} to {YEARS[-1]}", param, ctx)
        return instant


class _Horizon(click.ParamType):
    """A number and its unit."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        if isinstance(value, timedelta):
            return value
        match = _HORIZON.fullmatch(str(value))
        if match is None:
            self.fail(f"{value!r} is no time such as 12h, 30d or 8w", param, ctx)
        return timedelta(**{_UNITS[match[2]]: int(match[1])})


class _Duration(click.ParamType):
    """An object's name and seconds."""

    name = "name=seconds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, float]:
        if isinstance(value, tuple):
            return value
        name, _, text = str(value).rpartition("=")
        try:
            seconds = float(text)
        except ValueError:
            seconds = math.nan
        if not name or not math.isfinite(seconds) or seconds < 0:
            self.fail(f"{value!r} is not of the form NAME=SECONDS, such as nightly-report=90", param, ctx)
        return name, seconds


class _Picture(click.ParamType):
    """A file whose suffix says its form."""

    name = "file"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        file = Path(value)
        if file.suffix not in {".svg", ".png"}:
            self.fail(f"{value!r} ends neither in .svg nor in .png", param, ctx)
        return file


class _Topics(click.ParamType):
    """Topics, separated by commas."""

    name = "topics"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        topics = tuple(filter(None, (topic.strip() for topic in str(value).split(","))))
        if unknown := next((topic for topic in topics if topic not in TOPICS), None):
            self.fail(f"{unknown!r} is none of {', '.join(TOPICS)}", param, ctx)
        return topics


INSTANT, HORIZON, DURATIONS, PICTURE = _Instant(), _Horizon(), _Duration(), _Picture()


def topics_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """``--fail-on``, passed on as ``fail_on``."""
    return click.option(
        "--fail-on",
        type=_Topics(),
        default=FAIL_ON,
        show_default=True,
        help="Topics whose findings are exit code 1, separated by commas; '' for none but what is invalid.",
    )(function)
