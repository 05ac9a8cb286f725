"""One place where an error becomes what a person reads and what the shell gets.

Invariant: standard error gets what, why, fix and docs, one line each; never a traceback, never a password.
"""

from __future__ import annotations

import os
import re
import traceback
from pathlib import Path
from typing import IO, Any

import click

from pg_scheduler.cli.exit_codes import EXIT_NO, EXIT_UNREACHABLE, EXIT_USAGE
from pg_scheduler.cli.extras import MissingExtra
from pg_scheduler.errors import (
    AppNotFound,
    DatabaseUnreachable,
    EmbeddedPostgresFailed,
    InvalidArgument,
    NoPostgresBinaries,
    PgSchedulerError,
)

DEBUG_VARIABLE = "PGSCHEDULER_DEBUG"
DOCS_PAGE = "docs/reference/errors.md"

_WORD = re.compile(r"\S+")
_USAGE_ERRORS = (InvalidArgument, AppNotFound, MissingExtra)
_UNREACHABLE_ERRORS = (DatabaseUnreachable, NoPostgresBinaries, EmbeddedPostgresFailed)


class Reported(click.ClickException):
    """An error in the form in which click shows it and ends the process."""

    exit_code = EXIT_NO

    def show(self, file: IO[Any] | None = None) -> None:
        click.echo(self.message, file=file, err=file is None)


class ReportedUsage(Reported):
    """The caller's turn: what was given cannot be used."""

    exit_code = EXIT_USAGE


class ReportedUnreachable(Reported):
    """Nobody's fault here: PostgreSQL or Kubernetes does not answer."""

    exit_code = EXIT_UNREACHABLE


def reported(error: Exception) -> click.ClickException:
    """Any error that left a command, ready to be shown."""
    if isinstance(error, click.UsageError) and redacted(error.format_message()) != error.format_message():
        return click.UsageError(redacted(error.format_message()), ctx=error.ctx)
    if isinstance(error, click.ClickException):
        return error
    known = _the_one_of_ours(error)
    return Reported(_block_of_a_fault(error)) if known is None else _kind_of(known)(block_of(known))


def unreachable(error: PgSchedulerError) -> click.ClickException:
    """An error of another package that means: PostgreSQL or Kubernetes does not answer."""
    return ReportedUnreachable(block_of(error))


def _kind_of(error: PgSchedulerError) -> type[Reported]:
    if isinstance(error, _USAGE_ERRORS):
        return ReportedUsage
    return ReportedUnreachable if isinstance(error, _UNREACHABLE_ERRORS) else Reported


def block_of(error: PgSchedulerError) -> str:
    """The error as lines: what, why (or where), its notes of the form ``label: text``, fix, docs."""
    where_or_why = "where" if isinstance(error, DatabaseUnreachable) else "why"
    notes = [note.split(": ", 1) for note in getattr(error, "__notes__", ()) if ": " in note]
    rows = [
        (where_or_why, redacted(error.why)),
        *((label, redacted(text)) for label, text in notes),
        ("fix", error.fix),
        ("docs", f"{DOCS_PAGE}#{error.code.lower()}"),
    ]
    lines = [f"error {error.code}: {redacted(error.what)}"]
    return "\n".join(lines + [f"  {label + ':':<6} {text}" for label, text in rows if text])


def redacted(text: str) -> str:
    """The text without the user and password of any URL in it: people paste connection strings in wrong places."""
    return _WORD.sub(lambda word: _without_credentials(word[0]), text)


def _without_credentials(word: str) -> str:
    scheme, separator, rest = word.partition("://")
    _, at, place = rest.rpartition("@")
    return f"{scheme}://…@{place}" if separator and at else word


def _the_one_of_ours(error: BaseException) -> PgSchedulerError | None:
    """The error itself, or the first of ours in a group: concurrent parts of a command fail as a group."""
    if isinstance(error, PgSchedulerError):
        return error
    if isinstance(error, BaseExceptionGroup):
        return next(filter(None, map(_the_one_of_ours, error.exceptions)), None)
    return None


def _block_of_a_fault(error: Exception) -> str:
    """A fault of ours: its type and place but not its text, which may quote anything."""
    if os.environ.get(DEBUG_VARIABLE):
        return "".join(traceback.format_exception(error))
    last = traceback.extract_tb(error.__traceback__)[-1]
    return block_of(
        PgSchedulerError(
            f"a fault in pgscheduler itself: {type(error).__name__}",
            why=f"raised at {Path(last.filename).name}:{last.lineno} in {last.name}",
            fix=f"run it again with {DEBUG_VARIABLE}=1 for the traceback, and report it",
        )
    )
