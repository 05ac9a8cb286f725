"""A database that is wrong, absent or behind: one clear block each, and never the password."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING
from urllib.parse import quote

import asyncpg
import pytest
from click.testing import CliRunner
from hypothesis import example, given
from hypothesis import strategies as st

from pg_scheduler.cli.group import pgscheduler as group
from support.databases import EMPTY
from support.older_package import fill

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.commands import RunCommand

SECRET = "s3cret"  # noqa: S105 (of nothing)


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port that is taken and refuses connections."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@pytest.mark.parametrize("command", [("migrate",), ("migrate", "--check"), ("worker", "--database-wait", "0")])
@pytest.mark.parametrize("given_by", ["option", "variable"])
def test_stopped_server_is_one_block(
    pgscheduler: RunCommand, closed_port: int, command: tuple[str, ...], given_by: str
) -> None:
    dsn = f"postgresql://app:{SECRET}@127.0.0.1:{closed_port}/shop"
    if given_by == "option":
        ended = pgscheduler(*command, "--dsn", dsn)
    else:
        ended = pgscheduler(*command, env={"PGSCHEDULER_DSN": dsn})

    block = ended.require_block("PGS-012", exit_code=3)
    assert f"127.0.0.1:{closed_port}" in block
    assert "user app" in block
    assert "shop" in block
    assert f"from:  {'--dsn' if given_by == 'option' else '$PGSCHEDULER_DSN'}\n" in block
    assert "docs:  docs/reference/errors.md#pgs-012" in block
    assert SECRET not in ended.out + ended.err


@pytest.mark.parametrize(
    ("dsn", "said"),
    [
        (f"mysql://app:{SECRET}@db/app", "not a PostgreSQL URL"),
        (f"host=db password={SECRET}", "not a PostgreSQL URL"),
        (f"postgresql://app:{SECRET}@db:port/app", "the port of the DSN"),
        (f"postgresql://app:{SECRET}@db/app?sslmode=bogus", "sslmode"),
        (f"postgresql://app:{SECRET}@[::1/app", "cannot be read"),
        ("postgresql:///app", "names no host"),
        ("   ", "empty"),
    ],
)
def test_bad_dsn_is_one_block(pgscheduler: RunCommand, dsn: str, said: str) -> None:
    ended = pgscheduler("migrate", env={"PGSCHEDULER_DSN": dsn})

    block = ended.require_block("PGS-005", exit_code=2)
    assert said in block
    assert "from:  $PGSCHEDULER_DSN" in block
    assert "fix:   " in block
    assert "…" not in block
    assert SECRET not in ended.out + ended.err


@pytest.mark.parametrize("given_by", ["option", "variable"])
def test_line_break_that_came_along_with_a_dsn_is_told_of(
    pgscheduler: RunCommand, closed_port: int, given_by: str
) -> None:
    dsn = f"postgresql://app:{SECRET}@127.0.0.1:{closed_port}/shop\n"
    if given_by == "option":
        ended = pgscheduler("migrate", "--dsn", dsn)
    else:
        ended = pgscheduler("migrate", env={"PGSCHEDULER_DSN": dsn})

    name = "--dsn" if given_by == "option" else "$PGSCHEDULER_DSN"
    assert f"warning: {name} has white space around it, which is left out\n" in ended.err
    assert "PGS-012" in ended.err
    assert SECRET not in ended.out + ended.err


@pytest.mark.parametrize("command", [("migrate",), ("worker", "--database-wait", "0")])
async def test_server_that_takes_no_writes_is_said_to_be_one(
    pgscheduler: RunCommand, new_database: Callable[..., str], command: tuple[str, ...]
) -> None:
    dsn = new_database(template=EMPTY)
    admin = await asyncpg.connect(dsn)
    name = await admin.fetchval("SELECT quote_ident(current_database())")
    await admin.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    await admin.close()

    ended = pgscheduler(*command, env={"PGSCHEDULER_DSN": dsn})

    block = ended.require_block("PGS-012", exit_code=3)
    assert "the server takes no writes: a standby, or one that is set to read only" in block


def test_no_dsn_at_all_names_option_and_variable(pgscheduler: RunCommand) -> None:
    ended = pgscheduler("migrate", env={"PGSCHEDULER_DSN": ""})

    assert ended.exit_code == 2
    assert "Missing option '--dsn' (env var: 'PGSCHEDULER_DSN')" in ended.err


def test_dsn_in_the_wrong_place_is_not_repeated(pgscheduler: RunCommand) -> None:
    for command in ("migrate", "worker", "crds", "demo", "dev"):
        ended = pgscheduler(command, f"postgresql://app:{SECRET}@db/app", env={"PGSCHEDULER_DSN": "postgresql://a@b/c"})
        assert ended.exit_code == 2, ended
        assert SECRET not in ended.out + ended.err, ended


NOBODY_THERE = f"postgresql://app:{SECRET}@0.0.0.0:1/app?sslmode=disable"


@pytest.mark.parametrize(
    ("command", "variable"),
    [
        ("migrate", "PGSCHEDULER_DSN"),
        ("maintenance status", "PGSCHEDULER_DSN"),
        ("sweep", "PGSCHEDULER_DSN"),
        ("worker --database-wait 0", "PGSCHEDULER_DSN"),
        ("worker --database-wait 0", "PGSCHEDULER_DIRECT_DSN"),
    ],
)
def test_no_password_goes_to_whoever_answers_unless_that_is_allowed(command: str, variable: str) -> None:
    env = {"PGSCHEDULER_DSN": "postgresql://app@127.0.0.1:1/app", variable: NOBODY_THERE}

    refused = CliRunner().invoke(group, command.split(), env=env)
    by_option = CliRunner().invoke(group, [*command.split(), "--allow-insecure"], env=env)
    by_variable = CliRunner().invoke(group, command.split(), env=env | {"PGSCHEDULER_ALLOW_INSECURE": "true"})

    assert "error PGS-005: sslmode=disable would trust whoever answers" in refused.stderr
    assert refused.exit_code == 2
    assert [allowed.exit_code for allowed in (by_option, by_variable)] == [3, 3]
    assert SECRET not in refused.output + by_option.output + by_variable.output


any_text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
passwords = any_text.map(lambda text: SECRET + text)
templates = st.sampled_from(
    [
        "postgresql://app:{}@127.0.0.1:1/app",
        "postgresql://app:{}@127.0.0.1:1,127.0.0.1:2/app",
        "postgresql://app:{}@[::1]:1/app",
        "postgresql://app:{}@127.0.0.1:x/app",
        "postgresql://app:{}@/app",
        "postgresql://127.0.0.1:1/app?password={}",
        "postgresql://127.0.0.1:1/app?sslmode=bogus&password={}",
        "postgres://app:{}@127.0.0.1:1/app?sslmode={}",
        "mysql://app:{}@127.0.0.1:1/app",
        "app:{}@127.0.0.1:1/app",
        "host=127.0.0.1 port=1 password={}",
        "{}",
    ]
)


@given(template=templates, password=passwords, form=st.sampled_from([str, quote, lambda text: quote(text, safe="")]))
@example(template="postgresql://app:{}@127.0.0.1:1/app", password=f"{SECRET}/@:%[", form=str)
@example(template="postgresql://app:{}@127.0.0.1:1/app", password=f"{SECRET}?#", form=str)
def test_no_error_about_a_dsn_shows_the_password(template: str, password: str, form: Callable[[str], str]) -> None:
    dsn = template.replace("{}", form(password))

    result = CliRunner().invoke(group, ["migrate"], env={"PGSCHEDULER_DSN": dsn})

    assert result.exit_code in {2, 3}, result.output
    assert result.stderr.count("error PGS-0") == 1
    assert SECRET not in result.output


@pytest.mark.parametrize(
    "dsn",
    [
        f"postgresql://app:{SECRET}@more@127.0.0.1:1/app",  # asyncpg splits at the first @ and looks up the rest
        f"postgresql://app:{SECRET}@\x80@127.0.0.1:1/app",
        "postgresql://app@h\x80st:1/app",
        f"postgresql://127.0.0.1:1/app?password={SECRET}&",
    ],
)
def test_dsn_that_asyncpg_would_misread_is_refused(pgscheduler: RunCommand, dsn: str) -> None:
    pgscheduler("migrate", env={"PGSCHEDULER_DSN": dsn}).require_block("PGS-005", exit_code=2)


def test_migrate_brings_an_empty_database_up(pgscheduler: RunCommand, new_database: Callable[..., str]) -> None:
    env = {"PGSCHEDULER_DSN": new_database(template=EMPTY)}

    behind = pgscheduler("migrate", "--check", env=env)
    applied = pgscheduler("migrate", "-o", "json", env=env)
    current = pgscheduler("migrate", "--check", env=env)

    assert (behind.exit_code, applied.exit_code, current.exit_code) == (1, 0, 0)
    assert [line.split() for line in behind.out.splitlines()[:2]] == [["MIGRATION", "STATE"], ["initial", "pending"]]
    assert json.loads(applied.out)[0] == {"migration": "initial", "state": "applied"}
    assert current.out == ""
    assert "up to date" in current.err


def test_role_without_rights_is_told(pgscheduler: RunCommand, dsn: str) -> None:
    ended = pgscheduler("migrate", env={"PGSCHEDULER_DSN": dsn.replace("postgres@", "nobody_here@")})

    ended.require_block("PGS-012", exit_code=3)


async def test_table_of_another_program_is_told(pgscheduler: RunCommand, new_database: Callable[..., str]) -> None:
    dsn = new_database(template=EMPTY)
    connection = await asyncpg.connect(dsn)
    await connection.execute("CREATE TABLE scheduled_jobs (job_id text PRIMARY KEY, job_name text NOT NULL)")
    await connection.close()

    for command in ("migrate", "worker"):
        ended = pgscheduler(command, env={"PGSCHEDULER_DSN": dsn})
        assert "neither ours nor" in ended.require_block("PGS-013", exit_code=1)


async def test_migrate_adopts_the_older_package_and_tells_its_progress(
    pgscheduler: RunCommand, new_database: Callable[..., str]
) -> None:
    dsn = new_database(template=EMPTY)
    await fill(dsn)

    behind = pgscheduler("migrate", "--check", env={"PGSCHEDULER_DSN": dsn})
    adopted = pgscheduler("migrate", "-o", "json", env={"PGSCHEDULER_DSN": dsn})

    assert (behind.exit_code, adopted.exit_code) == (1, 0)
    assert json.loads(adopted.out)[0] == {"migration": "initial", "state": "applied"}
    assert "adopting scheduled_jobs of pg-scheduler 0.2.3: 29 jobs" in adopted.err
    assert "rows rewritten" in adopted.err
    assert "scheduler_adopted keeps them" in adopted.err
