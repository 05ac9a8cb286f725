"""The SQL surface from SQLAlchemy and psycopg, by the examples that people copy."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy.dialects import postgresql

from pg_scheduler import JobPriority, RetryPolicy
from pg_scheduler.contrib.sqlalchemy import _TYPES, statement
from pg_scheduler.errors import InvalidArgument, InvalidPayload
from support.paths import ROOT

if TYPE_CHECKING:
    import asyncpg

EXAMPLES = ROOT / "examples" / "integrations"


def run(name: str, dsn: str) -> str:
    ran = subprocess.run(
        [sys.executable, EXAMPLES / name],
        env={"PGSCHEDULER_DSN": dsn, "PYTHONPATH": str(ROOT / "worker")},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    return ran.stdout


async def test_sqlalchemy_example_commits_orders_and_jobs_together(
    dsn: str, pool: asyncpg.Pool[asyncpg.Record]
) -> None:
    ids = re.findall(r"enqueued (.+)", run("sqlalchemy_orders.py", dsn))

    jobs = await pool.fetch("SELECT * FROM scheduled_jobs ORDER BY execution_time")
    assert [job["job_id"] for job in jobs] == ids
    assert [job["task"] for job in jobs] == ["__main__:send_receipt"] * 2
    assert [json.loads(job["task_data"]) for job in jobs] == [
        {"args": [1], "kwargs": {}},
        {"args": [], "kwargs": {"order_id": 3}},
    ]
    assert json.loads(jobs[0]["tags"]) == ["receipt"]
    assert [row["item"] for row in await pool.fetch("SELECT item FROM orders ORDER BY id")] == ["book", "pen"]


async def test_psycopg_example_commits_an_order_and_its_job_together(
    dsn: str, pool: asyncpg.Pool[asyncpg.Record]
) -> None:
    out = run("psycopg_orders.py", dsn)

    (job,) = await pool.fetch("SELECT * FROM scheduled_jobs")
    assert out.splitlines() == [
        f"enqueued {job['job_id']}",
        "scheduler_enqueue: args is no JSON array - give for instance '[1, \"a\"]'",
    ]
    assert (job["task"], job["queue"], json.loads(job["task_data"])["args"]) == ("shop.mail:send_receipt", "mail", [1])


async def test_statement_takes_what_the_function_takes(pool: asyncpg.Pool[asyncpg.Record]) -> None:
    names = await pool.fetchval("SELECT proargnames FROM pg_proc WHERE proname = 'scheduler_enqueue'")

    assert set(names) == {"task", "args", "kwargs", *_TYPES}


@pytest.mark.parametrize(
    ("job", "sent"),
    [
        ({"priority": JobPriority.HIGH}, "high"),
        ({"retry_policy": RetryPolicy(initial=1)}, RetryPolicy(initial=1).to_json()),
        ({"metadata": {"a": 1}}, '{"a":1}'),
        ({"tags": ["a"]}, ["a"]),
    ],
)
def test_statement_sends_values_as_the_drivers_know_them(job: dict[str, Any], sent: object) -> None:
    compiled = statement("t", **job).compile(dialect=postgresql.dialect())  # type: ignore[no-untyped-call]

    assert compiled.params[next(iter(job))] == sent


@pytest.mark.parametrize(
    ("task", "job", "error", "words"),
    [
        ("t", {"quue": "a"}, InvalidArgument, "no option 'quue'.*queue"),
        ("t", {"args": [b"x"]}, InvalidPayload, "base64"),
        (print, {}, TypeError, "async"),
    ],
)
def test_statement_refuses_what_it_cannot_send(
    task: Any, job: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        statement(task, **job)
