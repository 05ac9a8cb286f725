"""What other languages and dashboards use: the function that enqueues, and two views."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from pg_scheduler._domain.jobs import NewJob
from support.waiting import until
from support.world import LONG_AGO

if TYPE_CHECKING:
    from support.world import World


async def enqueue(world: World, **named: str) -> str:
    """``scheduler_enqueue`` of task ``t`` with named parameters, each a piece of SQL."""
    listed = ", ".join(f"{name} => {value}" for name, value in {"task": "'t'", **named}.items())
    job_id: str = await world.pool.fetchval(f"SELECT scheduler_enqueue({listed})")
    return job_id


async def test_enqueued_job_is_claimed_with_what_it_was_given(world: World) -> None:
    job_id = await enqueue(world, args="'[1, \"a\"]'", kwargs="'{\"b\": null}'")

    (claimed,) = await world.claim(await world.worker())

    assert claimed.job_id == job_id
    assert json.loads(claimed.payload) == {"args": [1, "a"], "kwargs": {"b": None}}
    assert (claimed.queue, claimed.priority, claimed.on_interrupt) == ("default", 5, "retry")


async def test_enqueue_has_the_defaults_of_a_new_job(world: World) -> None:
    """But for the grace: SQL has no scheduler whose setting could be meant, so NULL never expires."""
    job_id = await enqueue(world)

    row = await world.row(job_id)
    assert {name: row[name] for name in NewJob._field_defaults} == NewJob._field_defaults
    assert row["misfire_grace_time"] is None


async def test_enqueue_stores_every_option(world: World) -> None:
    options = {
        "queue": ("'mail'", "mail"),
        "priority": ("'high'", 3),
        "max_retries": ("2", 2),
        "misfire_grace_time": ("60", 60),
        "timeout_seconds": ("1.5", 1.5),
        "retry_policy": ("'{\"initial\": 1}'", '{"initial": 1}'),
        "concurrency_key": ("'k'", "k"),
        "tags": ("ARRAY['a', 'b']", '["a","b"]'),
        "metadata": ("'{\"o\": 7}'", '{"o": 7}'),
        "keep_result": ("true", True),
        "on_interrupt": ("'fail'", "fail"),
        "max_interruptions": ("0", 0),
        "job_id": ("'j'", "j"),
        "tenant": ("'shop'", "shop"),
    }

    row = await world.row(await enqueue(world, **{name: sql for name, (sql, _) in options.items()}))

    assert {name: row[name] for name in options} == {name: value for name, (_, value) in options.items()}


@pytest.mark.parametrize(
    ("named", "words", "hint"),
    [
        ({"task": "''"}, "task is empty", "key"),
        ({"task": "NULL"}, "task is empty", "key"),
        ({"args": "'{}'"}, "args is no JSON array", "1, "),
        ({"args": "NULL"}, "args is no JSON array", "1, "),
        ({"kwargs": "'[]'"}, "kwargs is no JSON object", '"a": 1'),
        ({"args": "to_json(ARRAY[repeat('x', 1048576)])"}, "longer than 1 MiB", "reference"),
        ({"run_at": "'infinity'"}, "run_at is infinite", "before"),
        ({"run_at": "'10000-01-01'"}, "beyond the year 9998", "before"),
        ({"queue": "''"}, "queue is not of 1 to 200 bytes", "name"),
        ({"queue": "NULL"}, "queue is not of 1 to 200 bytes", "name"),
        ({"priority": "'urgent'"}, "priority is unknown", "critical, high, normal or low"),
        ({"priority": "NULL"}, "priority is unknown", "critical, high, normal or low"),
        ({"job_id": "''"}, "job_id is not of 1 to 200 bytes", "shorter"),
        ({"job_id": "repeat('x', 201)"}, "job_id is not of 1 to 200 bytes", "shorter"),
        ({"job_id": "'sj-1'"}, "reserved prefix", "custom resources"),
        ({"job_id": "'key:1'"}, "reserved prefix", "custom resources"),
        ({"on_conflict": "'update'"}, "on_conflict is unknown", "raise, ignore or replace"),
        ({"max_retries": "-1"}, "max_retries is negative", "0"),
        ({"max_retries": "NULL"}, "max_retries is negative", "0"),
        ({"misfire_grace_time": "-1"}, "misfire_grace_time is negative", "NULL"),
        ({"timeout_seconds": "0"}, "timeout_seconds is not above 0", "seconds"),
        ({"timeout_seconds": "'NaN'"}, "timeout_seconds is not above 0", "seconds"),
        ({"retry_policy": "'[]'"}, "retry_policy is no JSON object", "initial"),
        ({"concurrency_key": "''"}, "concurrency_key is not of 1 to 200 bytes", "NULL"),
        ({"tags": "ARRAY['']"}, "tags is not a list", "fewer"),
        ({"tags": "ARRAY[NULL]::text[]"}, "tags is not a list", "fewer"),
        ({"metadata": "'7'"}, "metadata is no JSON object", "order"),
        ({"on_interrupt": "'stop'"}, "on_interrupt is unknown", "retry or fail"),
        ({"max_interruptions": "-1"}, "max_interruptions is negative", "NULL"),
        ({"unique_key": "''"}, "unique_key is not of 1 to 200 bytes", "shorter"),
        ({"unique_within": "'1 hour'"}, "without unique_key", "both"),
        ({"unique_key": "'k'", "unique_within": "'-1 hour'"}, "unique_within is not positive", "interval"),
        ({"unique_key": "'k'", "job_id": "'j'"}, "together with a job_id", "one of them"),
        ({"unique_key": "'k'", "on_conflict": "'replace'"}, "together with a job_id or with replace", "one of them"),
    ],
)
async def test_enqueue_refuses_with_what_and_how_to_mend_it(
    world: World, named: dict[str, str], words: str, hint: str
) -> None:
    with pytest.raises(asyncpg.InvalidParameterValueError, match=f"scheduler_enqueue: .*{words}") as refused:
        await enqueue(world, **named)

    assert hint in str(refused.value.hint)
    assert await world.pool.fetchval("SELECT count(*) FROM scheduled_jobs") == 0


async def test_enqueue_of_a_taken_id_raises_ignores_or_replaces(world: World) -> None:
    job = await world.running(await world.worker())
    job_id = f"'{job.job_id}'"

    with pytest.raises(asyncpg.UniqueViolationError, match=f"job {job_id} already exists") as refused:
        await enqueue(world, job_id=job_id)
    assert refused.value.detail == "it is running"
    assert await enqueue(world, job_id=job_id, on_conflict="'ignore'") == job.job_id
    assert (await world.row(job.job_id))["status"] == "running"
    assert await enqueue(world, job_id=job_id, on_conflict="'replace'") == job.job_id

    row = await world.row(job.job_id)
    assert (row["status"], row["stopping_worker"], row["attempt"], row["token"]) == ("pending", job.worker_id, 0, 0)
    assert await world.jobs.complete([job], job.worker_id) == set()


async def test_enqueue_leaves_rows_of_custom_resources_alone(world: World) -> None:
    job_id = await world.pending()
    await world.pool.execute(
        "UPDATE scheduled_jobs SET source_uid = 'u', source_kind = 'ScheduledJob', source_name = 'n'"
    )

    with pytest.raises(asyncpg.UniqueViolationError) as refused:
        await enqueue(world, job_id=f"'{job_id}'", on_conflict="'replace'")

    assert refused.value.detail == "it is pending and belongs to ScheduledJob n"


async def test_enqueue_of_an_equal_key_returns_the_first_job(world: World) -> None:
    first = await enqueue(world, unique_key="'k'")

    assert await enqueue(world, unique_key="'k'") == first
    assert await enqueue(world, unique_key="'k'", tenant="'other'") != first
    await world.jobs.cancel(first)
    assert await enqueue(world, unique_key="'k'") != first


async def test_enqueue_past_the_grace_stores_expired_and_warns(world: World) -> None:
    warnings: list[Any] = []
    async with world.pool.acquire() as connection:

        def note(_: object, message: Any) -> None:
            warnings.append(message)

        connection.add_log_listener(note)
        query = "SELECT scheduler_enqueue('t', run_at => now() - interval '2 minutes', misfire_grace_time => 60)"
        job_id = await connection.fetchval(query)
        await until(lambda: bool(warnings))
        connection.remove_log_listener(note)

    assert (await world.row(job_id))["status"] == "expired"
    assert "stored as expired" in warnings[0].message


async def test_enqueue_wakes_workers_only_for_what_is_due_soon(world: World, dsn: str) -> None:
    heard: list[str] = []
    listener = await asyncpg.connect(dsn)
    await listener.add_listener("scheduler_wakeup", lambda *heard_now: heard.append(heard_now[3]))

    await enqueue(world, run_at="now() + interval '1 hour'")
    await enqueue(world)

    await world.pool.execute("NOTIFY scheduler_wakeup, 'end'")
    await until(lambda: "end" in heard)
    await listener.close()
    assert heard == ["", "end"]


async def test_queue_depth_counts_what_is_due_and_what_runs(world: World) -> None:
    worker = await world.worker()
    await world.running(worker)
    await world.pending()
    await world.pending(suspended=True)
    await world.pending(concurrency_key="k", queue="mail")
    await world.pool.execute("SELECT scheduler_enqueue('t', run_at => now() + interval '1 hour')")
    await world.pool.execute(
        "INSERT INTO scheduler_queues (tenant, queue, paused_at) VALUES ('', 'idle', now()) ON CONFLICT DO NOTHING"
    )

    rows = await world.pool.fetch("SELECT * FROM scheduler_queue_depth ORDER BY queue")

    assert [(row["queue"], row["due"], row["running"], row["paused"]) for row in rows] == [
        ("default", 1, 1, False),
        ("idle", 0, 0, True),
        ("mail", 1, 0, False),
    ]
    seconds = (await world.pool.fetchval("SELECT now()") - LONG_AGO).total_seconds()
    assert rows[0]["oldest_due_seconds"] == pytest.approx(seconds, abs=5)
    assert rows[1]["oldest_due_seconds"] == 0


async def test_overview_shows_jobs_without_what_their_tasks_are_given(world: World) -> None:
    job_id = await enqueue(world, args="'[\"secret\"]'", tags="ARRAY['a']")

    (row,) = await world.pool.fetch("SELECT * FROM scheduler_jobs_overview")

    assert (row["job_id"], row["status"], json.loads(row["tags"])) == (job_id, "pending", ["a"])
    assert not {"task_data", "token", "traceparent"} & set(row.keys())
    assert "secret" not in str(dict(row))


async def test_queue_depth_reads_no_future_or_finished_job(world: World) -> None:
    await world.pool.execute("""
        INSERT INTO scheduled_jobs (job_id, task, job_name, task_data, execution_time, status, finished_at)
        SELECT 'j' || n, 't', 't', '{}', now() + make_interval(secs => n),
               CASE n % 2 WHEN 0 THEN 'pending' ELSE 'completed' END, CASE n % 2 WHEN 1 THEN now() END
        FROM generate_series(1, 20000) n""")
    await world.pool.execute("VACUUM ANALYZE scheduled_jobs")

    plan = "\n".join(
        row[0] for row in await world.pool.fetch("EXPLAIN (COSTS OFF) SELECT * FROM scheduler_queue_depth")
    )

    assert "scheduled_jobs_running" in plan, plan
    assert "Seq Scan on scheduled_jobs" not in plan, plan
