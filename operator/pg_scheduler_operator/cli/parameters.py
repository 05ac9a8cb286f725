"""Options of ``simulate`` and ``lint``, as values.

Invariant: a value that leaves here has been checked; importing this module imports click and nothing heavier.
"""

from __future__ import annotations

import math
import re
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

import click

from pg_scheduler.cli.instants import instant_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Topic = Literal["invalid", "never", "overlap", "deadline", "capacity", "clocks", "kubernetes", "arguments"]
TOPICS: Final[tuple[Topic, ...]] = get_args(Topic)

_HORIZON: Final = re.compile(r"([1-9]\d{0,4})([smhdw])")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def files_argument(function: Callable[..., Any]) -> Callable[..., Any]:
    """``FILE...``: files of manifests, and folders of them."""
    path = click.Path(exists=True, path_type=Path)
    return click.argument("files", nargs=-1, required=True, type=path, metavar="FILE...")(function)


def since_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """``--from``, passed on as ``since``."""
    return click.option(
        "--from",
        "since",
        callback=instant_of,
        metavar="INSTANT",
        help="When it begins, such as 2026-03-08T00:00Z; now if not given.",
    )(function)


def slots_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """``--slots``."""
    return click.option(
        "--slots",
        type=click.IntRange(1, 1_000_000),
        help="Jobs that run at a time in each namespace; those of its WorkerPools if not given.",
    )(function)


def duration_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """``--duration``, passed on as ``durations``: name and seconds."""
    return click.option(
        "--duration",
        "durations",
        multiple=True,
        callback=_durations_of,
        metavar="NAME=SECONDS",
        help="How long the runs of an object take; may be given several times.",
    )(function)


def horizon_of(context: click.Context, parameter: click.Parameter, value: str) -> timedelta:
    """A number and its unit."""
    del context, parameter
    match = _HORIZON.fullmatch(value)
    if match is None:
        raise click.BadParameter(f"{value!r} is no time such as 12h, 30d or 8w")
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


def picture_of(context: click.Context, parameter: click.Parameter, value: Path | None) -> Path | None:
    """A file whose suffix says its form."""
    del context, parameter
    if value is not None and value.suffix not in {".svg", ".png"}:
        raise click.BadParameter(f"{str(value)!r} ends neither in .svg nor in .png")
    return value


def topics_of(context: click.Context, parameter: click.Parameter, value: str) -> tuple[str, ...]:
    """Topics, separated by commas."""
    del context, parameter
    topics = tuple(filter(None, (topic.strip() for topic in value.split(","))))
    if unknown := next((topic for topic in topics if topic not in TOPICS), None):
        raise click.BadParameter(f"{unknown!r} is none of {', '.join(TOPICS)}")
    return topics


def _durations_of(context: click.Context, parameter: click.Parameter, value: Sequence[str]) -> dict[str, float]:
    del context, parameter
    return dict(map(_duration_of, value))


def _duration_of(text: str) -> tuple[str, float]:
    name, _, number = text.rpartition("=")
    try:
        seconds = float(number)
    except ValueError:
        seconds = math.nan
    if not name or not math.isfinite(seconds) or seconds < 0:
        raise click.BadParameter(f"{text!r} is not of the form NAME=SECONDS, such as nightly-report=90")
    return name, seconds
