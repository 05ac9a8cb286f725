"""Instants on the command line."""

from __future__ import annotations

from datetime import datetime

import click

YEARS = range(1900, 9999)


def instant_of(context: click.Context, parameter: click.Parameter, value: str | None) -> datetime | None:
    """ISO 8601 with its zone: without one it would be another instant on each machine."""
    if value is None:
        return None
    try:
        instant = datetime.fromisoformat(value)
    except ValueError as error:
        raise click.BadParameter(f"{value!r} is no instant such as 2026-03-08T07:00Z") from error
    if instant.tzinfo is None:
        raise click.BadParameter(f"{value!r} has no time zone; write 2026-03-08T07:00Z or 2026-03-08T02:00-05:00")
    return in_range(context, parameter, instant)


def in_range(context: click.Context, parameter: click.Parameter, value: datetime | None) -> datetime | None:
    """A year that every calendar at hand can count."""
    del context, parameter
    if value is not None and value.year not in YEARS:
        raise click.BadParameter(f"give a year from {YEARS[0]} to {YEARS[-1]}")
    return value
