"""Which jobs that have ended a worker keeps, as a person writes it: ``7d``, ``last 1000``, ``forever``.

Invariant: what is taken can be stored and counted by the database; anything else is refused with its option.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import click

from pg_scheduler.vacuum import VacuumConfig, VacuumPolicy

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping

SHOWN_LENGTH: Final = 40

_DAYS: Final = re.compile(r"([0-9]{1,4})d")
_NEWEST: Final = re.compile(r"last ([0-9]{1,9})")


def _kept(context: click.Context, parameter: click.Parameter, value: str) -> VacuumPolicy:
    del context, parameter
    if value == "forever":
        return VacuumPolicy.never()
    if days := _DAYS.fullmatch(value):
        return VacuumPolicy.after_days(int(days[1]))
    if newest := _NEWEST.fullmatch(value):
        return VacuumPolicy.keep_last(int(newest[1]))
    what = f"{value[:SHOWN_LENGTH]!r} does not say what is kept"
    raise click.BadParameter(f"{what}: give 0d to 9999d, 'last 0' to 'last 999999999', or forever")


def _days(context: click.Context, parameter: click.Parameter, value: str) -> int:
    del context, parameter
    if days := _DAYS.fullmatch(value):
        return int(days[1])
    raise click.BadParameter(f"{value[:SHOWN_LENGTH]!r} is no number of days: give 0d to 9999d")


def _option(end: str, variable: str, default: str) -> Callable[..., Any]:
    return click.option(
        f"--retention-{end}",
        callback=_kept,
        envvar=variable,
        show_envvar=True,
        default=default,
        show_default=True,
        metavar="WHAT",
        help=f"Which {end} jobs are kept: such as 30d from their end, 'last 1000' of each job name, or forever.",
    )


_OPTIONS: Final = {
    "completed": _option("completed", "PGSCHEDULER_RETENTION_COMPLETED", "1d"),
    "failed": _option("failed", "PGSCHEDULER_RETENTION_FAILED", "7d"),
    "cancelled": _option("cancelled", "PGSCHEDULER_RETENTION_CANCELLED", "3d"),
    "expired": _option("expired", "PGSCHEDULER_RETENTION_EXPIRED", "3d"),
    "keys_days": click.option(
        "--retention-keys",
        "retention_keys_days",
        callback=_days,
        envvar="PGSCHEDULER_RETENTION_KEYS",
        show_envvar=True,
        default="90d",
        show_default=True,
        metavar="DAYS",
        help="How long the end of a ScheduledJob, and so its idempotencyKey, is remembered.",
    ),
}
"""By the fields of a VacuumConfig."""

RETENTION_OPTIONS: Final = tuple(f"retention_{field}" for field in _OPTIONS)
"""Under these names they reach the command."""


def retention_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """``--retention-completed`` and its like, of which ``retention_given`` makes one config."""
    for option in reversed(_OPTIONS.values()):
        function = option(function)
    return function


def retention_given(options: MutableMapping[str, Any]) -> VacuumConfig:
    """Take them out of a command's ``options``."""
    return VacuumConfig(**{field: options.pop(f"retention_{field}") for field in _OPTIONS})
