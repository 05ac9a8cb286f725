"""Errors as blocks: their form, their exit codes, and that no password is in them."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from pg_scheduler.cli.extras import MissingExtra
from pg_scheduler.cli.group import CommandGroup
from pg_scheduler.cli.reporting import block_of, redacted, reported
from pg_scheduler.errors import (
    AppNotFound,
    DatabaseUnreachable,
    EmbeddedPostgresFailed,
    InvalidDsn,
    InvalidPayload,
    JobExists,
    NoPostgresBinaries,
    OwnedByResource,
    PgSchedulerError,
    SchemaMismatch,
)


def test_block_has_one_line_for_each_part() -> None:
    error = DatabaseUnreachable("cannot reach PostgreSQL: connection refused", why="host db, user app", fix="start it")
    error.add_note("tried: 5 times in 12 s")

    assert block_of(error).splitlines() == [
        "error PGS-012: cannot reach PostgreSQL: connection refused",
        "  where: host db, user app",
        "  tried: 5 times in 12 s",
        "  fix:   start it",
        "  docs:  docs/reference/errors.md#pgs-012",
    ]


def test_block_leaves_out_empty_parts() -> None:
    assert block_of(OwnedByResource("job 'x' belongs to another source")).splitlines() == [
        "error PGS-014: job 'x' belongs to another source",
        "  docs:  docs/reference/errors.md#pgs-014",
    ]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (InvalidDsn("x"), 2),
        (InvalidPayload("x"), 2),
        (JobExists("x"), 2),
        (AppNotFound("x"), 2),
        (MissingExtra("cli", "click"), 2),
        (DatabaseUnreachable("x"), 3),
        (NoPostgresBinaries("x"), 3),
        (EmbeddedPostgresFailed("x"), 3),
        (SchemaMismatch("x"), 1),
        (OwnedByResource("x"), 1),
        (PgSchedulerError("x"), 1),
    ],
)
def test_exit_code_says_whose_turn_it_is(error: PgSchedulerError, expected: int) -> None:
    assert reported(error).exit_code == expected


class OneCommand(CommandGroup):
    """Knows one command, which raises."""

    def __init__(self, raised: BaseException) -> None:
        super().__init__()
        self._raised = raised

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command:
        del ctx
        return click.Command(cmd_name, callback=self._fail)

    def _fail(self) -> None:
        raise self._raised


def test_error_inside_a_group_of_errors_is_reported() -> None:
    grouped = ExceptionGroup("two tasks", [ExceptionGroup("one", [SchemaMismatch("2 migrations are pending")])])

    result = CliRunner().invoke(OneCommand(grouped), ["fails"])

    assert result.exit_code == 1
    assert result.stderr.startswith("error PGS-013: 2 migrations are pending\n")


def test_fault_of_ours_names_type_and_place_but_not_its_text() -> None:
    result = CliRunner().invoke(OneCommand(KeyError("s3cret")), ["fails"])

    assert result.exit_code == 1
    assert result.stderr.startswith("error PGS-000: a fault in pgscheduler itself: KeyError\n")
    assert "test_reporting.py" in result.stderr
    assert "s3cret" not in result.output
    assert "Traceback" not in result.output


def test_fault_of_ours_shows_its_traceback_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGSCHEDULER_DEBUG", "1")

    assert "Traceback" in CliRunner().invoke(OneCommand(KeyError("x")), ["fails"]).stderr


def test_interrupt_exits_130() -> None:
    assert CliRunner().invoke(OneCommand(KeyboardInterrupt()), ["fails"]).exit_code == 130


@given(
    user=st.text(st.characters(exclude_categories=["Z", "C"]), max_size=8),
    password=st.text(st.characters(exclude_categories=["Z", "C"]), min_size=8, max_size=20).map(
        lambda text: f"s3cret{text}"
    ),
)
def test_redacted_takes_credentials_out_of_any_url(user: str, password: str) -> None:
    text = redacted(f"Got unexpected extra argument (postgresql://{user}:{password}@db:5432/app)")

    assert "s3cret" not in text
    assert "@db:5432/app" in text


def test_usage_error_does_not_repeat_a_password() -> None:
    error = reported(click.UsageError("Got unexpected extra argument (postgresql://app:s3cret@db/app)"))

    assert error.format_message() == "Got unexpected extra argument (postgresql://…@db/app)"
