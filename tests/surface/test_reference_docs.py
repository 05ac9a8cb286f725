"""The reference pages hold every setting, variable, table and parameter that the code has, with its default."""

from __future__ import annotations

import dataclasses
import inspect
import re
import secrets
from datetime import UTC, datetime

import asyncpg
import click
import pytest
import yaml

from pg_scheduler import JobSpec, PollingConfig, Scheduler, Unique, VacuumConfig, VacuumPolicy
from pg_scheduler.cli.migrate import migrate
from pg_scheduler.cli.preview import preview
from pg_scheduler.cli.worker import worker
from pg_scheduler.errors import JobFailed
from pg_scheduler_operator.cli import lint, simulate
from pg_scheduler_operator.crdgen import openapi
from pg_scheduler_operator.resources import (
    Model,
    PeriodicJobSpec,
    PeriodicJobStatus,
    Retry,
    ScheduledJobSpec,
    ScheduledJobStatus,
    ScheduleSpec,
    TaskSpec,
)
from pg_scheduler_operator.settings import Settings
from support.operator_pages import SETTINGS_PAGE, settings_table
from support.paths import ROOT, shipped_modules

REFERENCE = ROOT / "docs" / "reference"
CONFIGURATION = (REFERENCE / "configuration.md").read_text(encoding="utf-8")


async def answer() -> int:
    return 42


async def fails() -> None:
    raise RuntimeError("on purpose")


def rows_of(title: str, page: str = CONFIGURATION) -> list[list[str]]:
    """The cells of a section's table, row by row, without their backticks."""
    (text,) = re.findall(rf"^## {title}\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    return [[cell.strip().strip("`") for cell in row.split("|")[1:-1]] for row in rows]


def defaults_in(title: str) -> dict[str, str]:
    return {row[0]: row[1] for row in rows_of(title)}


def shown(value: object) -> str:
    if isinstance(value, VacuumPolicy):
        return f"after_days({value.days})"
    return "" if value is inspect.Parameter.empty else repr(value)


def test_scheduler_parameters_are_there_with_their_defaults() -> None:
    parameters = dict(inspect.signature(Scheduler).parameters)

    assert defaults_in("Scheduler") == {name: shown(parameter.default) for name, parameter in parameters.items()}


@pytest.mark.parametrize("config", [PollingConfig(), VacuumConfig()], ids=lambda config: type(config).__name__)
def test_fields_of_configs_are_there_with_their_defaults(config: PollingConfig | VacuumConfig) -> None:
    fields = {field.name: shown(getattr(config, field.name)) for field in dataclasses.fields(config)}

    assert defaults_in(type(config).__name__) == fields


@pytest.mark.parametrize("command", [worker, migrate, preview, simulate, lint], ids=lambda command: str(command.name))
def test_options_are_there_with_their_variable_and_default(command: click.Command) -> None:
    options = [option for option in command.params if isinstance(option, click.Option) and not option.hidden]

    assert {tuple(row[:3]) for row in rows_of(f"pgscheduler {command.name}")} == {
        (
            option.opts[-1],
            option.envvar or "",
            "" if option.is_flag or not isinstance(option.default, str | int | float) else str(option.default),
        )
        for option in options
    }


def test_every_variable_is_there() -> None:
    code = "\n".join(path.read_text(encoding="utf-8") for path in shipped_modules())
    read = set(re.findall(r"\bPGSCHEDULER_[A-Z_]*[A-Z]\b", code))
    operator = {f"PGSCHEDULER_{name.upper()}" for name in Settings.model_fields}
    operator_page = SETTINGS_PAGE.read_text(encoding="utf-8")

    assert set(re.findall(r"PGSCHEDULER_\w+", CONFIGURATION + operator_page)) == read | operator
    assert settings_table() in operator_page, "run python -m support.operator_pages"


async def test_every_table_and_view_is_there(pool: asyncpg.Pool[asyncpg.Record]) -> None:
    page = (REFERENCE / "schema.md").read_text(encoding="utf-8")
    rows = await pool.fetch(
        "SELECT relname FROM pg_class WHERE relkind IN ('r', 'v') AND relnamespace = current_schema()::regnamespace"
    )

    named = {name for cell in re.findall(r"^\| (.*?) \|", page, re.MULTILINE) for name in re.findall(r"`(\w+)`", cell)}
    assert named == {row["relname"] for row in rows}


async def test_rights_that_the_page_grants_are_enough(
    dsn: str, pool: asyncpg.Pool[asyncpg.Record], caplog: pytest.LogCaptureFixture
) -> None:
    page = (REFERENCE / "schema.md").read_text(encoding="utf-8")
    role = f"app_{secrets.token_hex(4)}"  # roles belong to the server, which other tests use too
    (grants,) = re.findall(r"^```sql\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    await pool.execute(f"CREATE ROLE {role} LOGIN; " + re.sub(r"\bapp\b", role, grants))
    now = datetime.now(UTC)
    keyed = JobSpec(answer, now, concurrency_key="k", concurrency_limit=2, keep_result=True)
    plain = JobSpec(answer, now, unique=Unique(), keep_result=True)
    try:
        async with (
            asyncpg.create_pool(dsn, user=role, min_size=1) as own,
            Scheduler(own, auto_migrate=False) as scheduler,
        ):
            ids = await scheduler.schedule_bulk([keyed, keyed, plain])
            assert [await scheduler.result(str(job_id), timeout=30) for job_id in ids] == [42, 42, 42]
            with pytest.raises(JobFailed):
                await scheduler.result(await scheduler.schedule(fails, execution_time=now), timeout=30)
            await scheduler.pause_queue("mail")
            await scheduler.resume_queue("mail")
            await scheduler.run_vacuum()
            await own.execute("SELECT scheduler_enqueue('t'); SELECT FROM scheduler_queue_depth")
        assert not [record for record in caplog.records if "right" in record.getMessage()]
    finally:
        await pool.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


async def test_every_parameter_of_the_sql_function_is_there(pool: asyncpg.Pool[asyncpg.Record]) -> None:
    page = (REFERENCE / "sql.md").read_text(encoding="utf-8")
    names = await pool.fetchval("SELECT proargnames FROM pg_proc WHERE proname = 'scheduler_enqueue'")

    (table,) = re.findall(r"^## scheduler_enqueue\n(.*?)^\| SQLSTATE", page, re.MULTILINE | re.DOTALL)
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == set(names)


def test_every_option_of_a_job_is_there() -> None:
    page = (REFERENCE / "submission.md").read_text(encoding="utf-8")
    options = [field.name for field in dataclasses.fields(JobSpec) if field.kw_only and field.name != "_"]

    assert [name for name in options if f"`{name}`" not in page] == []


PERIODIC_JOB = (REFERENCE / "periodic-job.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(("title", "model"), [("schedule", ScheduleSpec), ("spec", PeriodicJobSpec)])
def test_every_field_of_a_periodic_job_is_there_with_its_default(
    title: str, model: type[ScheduleSpec | PeriodicJobSpec]
) -> None:
    fields = openapi(model)["properties"]
    told = {name: row[2] for row in rows_of(title, PERIODIC_JOB) for name in row[0].split("`, `")}

    assert told.keys() == fields.keys()
    defaults = {name: field["default"] for name, field in fields.items() if "default" in field}
    assert {name: yaml.safe_load(told[name]) for name in defaults} == defaults


SCHEDULED_JOB = (REFERENCE / "scheduled-job.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("title", "model"), [("spec", ScheduledJobSpec), ("template", TaskSpec), ("retryPolicy", Retry)]
)
def test_every_field_of_a_scheduled_job_is_there_with_its_default(title: str, model: type[Model]) -> None:
    fields = openapi(model)["properties"]
    told = {name: row[2] for row in rows_of(title, SCHEDULED_JOB) for name in row[0].split("`, `")}

    assert told.keys() == fields.keys()
    defaults = {name: field["default"] for name, field in fields.items() if "default" in field}
    assert {name: yaml.safe_load(told[name]) for name in defaults} == defaults


def test_every_condition_and_field_of_a_scheduled_jobs_status_is_there() -> None:
    named = {row[0] for row in rows_of("Conditions", SCHEDULED_JOB)}
    fields = openapi(ScheduledJobStatus)["properties"].keys() - {"conditions", "observedGeneration"}

    assert named == set(str(ScheduledJobStatus.__doc__).rstrip(".").partition(": ")[2].split(", "))
    assert [name for name in sorted(fields) if f"`{name}`" not in SCHEDULED_JOB] == []


def test_every_condition_of_a_periodic_job_is_there() -> None:
    named = {row[0] for row in rows_of("Conditions", PERIODIC_JOB)}

    assert named == set(str(PeriodicJobStatus.__doc__).rstrip(".").partition(": ")[2].split(", "))
