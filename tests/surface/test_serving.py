"""A worker's probes and metrics, as a kubelet and Prometheus see them: a process of its own, asked over HTTP."""

from __future__ import annotations

import re
import socket
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from pg_scheduler import Scheduler
from pg_scheduler._serving import probes
from pg_scheduler._serving.ledger import COUNTED
from pg_scheduler._serving.metrics import LABELS, METRICS
from support.paths import ROOT
from support.proxy import Proxy
from support.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    import asyncpg

    from support.commands import RunCommand, Running, StartCommand

TENANT = "shop"
CANARY = "c4n4ry"
UNREACHABLE = "postgresql://app@127.0.0.1:1/app"
APP = """
import asyncio
import pathlib
import time
from pg_scheduler import Fail, JobContext, RetryPolicy, Snooze, task

async def pays(*_): ...

async def fails(*_):
    raise RuntimeError("c4n4ry")

async def gives_up():
    return Fail("c4n4ry")

@task(name="shop.retries", retry_policy=RetryPolicy(initial=0))
async def retries():
    raise RuntimeError("c4n4ry")

async def settles(ctx: JobContext):
    async with ctx.transaction():
        pass

async def snoozes(ctx: JobContext):
    return Snooze(0) if ctx.attempt == 1 else None

async def waits(*_):
    pathlib.Path("waiting").touch()
    await asyncio.sleep(60)

async def blocks():
    pathlib.Path("blocking").touch()
    while not pathlib.Path("go_on").exists():
        time.sleep(0.01)
"""
STARTED = "started with"


@pytest.fixture
def start_worker(dsn: str, start_pgscheduler: StartCommand, tmp_path: Path) -> StartCommand:
    """Start a worker that serves HTTP on a free port, beside ``shop.py``."""
    (tmp_path / "shop.py").write_text(APP)

    def start(*arguments: str, to: str = dsn) -> Running:
        env = {"PGSCHEDULER_DSN": to, "PGSCHEDULER_TENANT": TENANT, "PGSCHEDULER_HTTP": "127.0.0.1:0"}
        return start_pgscheduler("worker", "shop.py", *arguments, env=env)

    return start


async def address_of(worker: Running) -> str:
    await worker.says("probes and metrics at ")
    (address,) = re.findall(r"probes and metrics at (http://127\.0\.0\.1:\d+)$", worker.err, re.MULTILINE)
    return str(address)


async def started(worker: Running) -> str:
    """The address of a worker that has started."""
    await worker.says(STARTED)
    return await address_of(worker)


async def get(url: str, *, seconds: float = 10) -> tuple[int, str]:
    async with (
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=seconds)) as session,
        session.get(url) as answer,
    ):
        return answer.status, await answer.text()


async def is_answered(url: str, status: int, text: str) -> None:
    async def says_so() -> bool:
        assert await get(url) == (status, f"{text}\n")
        return True

    await until(says_so, what=f"{url} answers {status} {text}")


async def samples(address: str) -> dict[tuple[str, ...], float]:
    """Each sample by its name and the values of its labels, in the order of ``LABELS``."""
    status, text = await get(f"{address}/metrics")
    assert status == 200
    families = list(text_string_to_metric_families(text))
    assert all(set(sample.labels) <= set(LABELS) for family in families for sample in family.samples)
    return {
        (sample.name, *(sample.labels[name] for name in LABELS if name in sample.labels)): sample.value
        for family in families
        for sample in family.samples
    }


async def is_counted(address: str, expected: dict[tuple[str, ...], float]) -> None:
    async def says_so() -> bool:
        seen = await samples(address)
        assert {name: seen.get(name) for name in expected} == expected
        return True

    await until(says_so)


async def kill_a_part(address: str, pool: asyncpg.Pool[asyncpg.Record]) -> None:
    """Take the jobs' table away, between two readings of the ledger: a lock of theirs would be in the way."""
    await is_counted(address, {("pgscheduler_schedule_ticks_open", TENANT): 0})
    await pool.execute("DROP TABLE scheduled_jobs CASCADE")


async def submit(pool: asyncpg.Pool[asyncpg.Record], task: str, *args: object, max_retries: int = 0) -> str:
    scheduler = Scheduler(pool, tenant=TENANT)
    return await scheduler.schedule_job(task, datetime.now(UTC), {"args": list(args)}, max_retries=max_retries)


async def test_started_worker_is_live_and_ready(start_worker: StartCommand) -> None:
    address = await started(start_worker())

    assert await get(f"{address}/livez") == (200, "ok\n")
    assert await get(f"{address}/readyz") == (200, "ok\n")


async def test_worker_that_waits_for_its_database_is_live_and_not_ready(start_worker: StartCommand) -> None:
    address = await address_of(start_worker(to=UNREACHABLE))

    assert await get(f"{address}/livez") == (200, "ok\n")
    assert await get(f"{address}/readyz") == (503, "starting\n")
    assert await samples(address) == {}


async def test_worker_that_shuts_down_is_live_and_not_ready(
    start_worker: StartCommand, pool: asyncpg.Pool[asyncpg.Record], tmp_path: Path
) -> None:
    worker = start_worker("--shutdown-timeout", "60")
    address = await started(worker)
    await submit(pool, "shop:waits")
    await until((tmp_path / "waiting").exists)

    worker.process.terminate()

    await is_answered(f"{address}/readyz", 503, "stopping")
    assert await get(f"{address}/livez") == (200, "ok\n")
    assert (await samples(address))["pgscheduler_worker_running_jobs", TENANT] == 1


async def test_worker_without_its_lease_is_not_ready_until_it_is_back(start_worker: StartCommand, dsn: str) -> None:
    async with Proxy.to(dsn) as proxy:
        worker = start_worker("--lease", "5", to=proxy.dsn)
        address = await started(worker)

        proxy.black_hole()

        await is_answered(f"{address}/readyz", 503, "lease")
        assert await get(f"{address}/livez") == (200, "ok\n")
        assert (await samples(address))["pgscheduler_worker_lease_seconds", TENANT] == 0
        proxy.cut()
        proxy.heal()
        await is_answered(f"{address}/readyz", 200, "ok")
        assert 0 < (await samples(address))["pgscheduler_worker_lease_seconds", TENANT] <= 5
        worker.process.kill()
        worker.wait()


async def test_worker_with_a_dead_part_is_not_live(
    start_worker: StartCommand, pool: asyncpg.Pool[asyncpg.Record], tmp_path: Path
) -> None:
    worker = start_worker("--shutdown-timeout", "60")
    address = await started(worker)
    await submit(pool, "shop:waits")
    await until((tmp_path / "waiting").exists)

    await kill_a_part(address, pool)

    await is_answered(f"{address}/livez", 503, "dead")
    assert await get(f"{address}/readyz") == (503, "dead\n")


async def test_worker_whose_engine_dies_ends_with_the_reason_when_it_serves_too(
    start_worker: StartCommand, pool: asyncpg.Pool[asyncpg.Record]
) -> None:
    worker = start_worker("--shutdown-timeout", "1", "--lease", "3")
    address = await started(worker)

    await kill_a_part(address, pool)

    assert worker.wait() == 1
    assert "error PGS-013: " in worker.err


async def test_stalled_main_loop_gives_no_answer(
    start_worker: StartCommand, pool: asyncpg.Pool[asyncpg.Record], tmp_path: Path
) -> None:
    address = await started(start_worker())
    await submit(pool, "shop:blocks")
    await until((tmp_path / "blocking").exists)

    with pytest.raises(TimeoutError):
        await get(f"{address}/livez", seconds=1)

    (tmp_path / "go_on").touch()
    await is_answered(f"{address}/livez", 200, "ok")


async def test_attempts_are_counted_by_their_outcome(
    start_worker: StartCommand, pool: asyncpg.Pool[asyncpg.Record]
) -> None:
    address = await started(start_worker("--slots", "7"))
    ended = ("pgscheduler_worker_attempts_ended_total", TENANT)
    assert {value for name, value in (await samples(address)).items() if name[:2] == ended} == {0}

    for task in ("shop:pays", "shop:settles", "shop:gives_up", "shop:snoozes"):
        await submit(pool, task)
    await submit(pool, "shop.retries", max_retries=1)

    await is_counted(
        address,
        {
            (*ended, "completed"): 3,
            (*ended, "failed"): 2,
            (*ended, "retried"): 1,
            (*ended, "snoozed"): 1,
            (*ended, "cancelled"): 0,
            (*ended, "handed_back"): 0,
            (*ended, "discarded"): 0,
            ("pgscheduler_worker_attempts_started_total", TENANT): 7,
            ("pgscheduler_worker_running_jobs", TENANT): 0,
            ("pgscheduler_worker_slots", TENANT): 7,
        },
    )


async def test_discarded_outcomes_are_counted(
    start_worker: StartCommand, pool: asyncpg.Pool[asyncpg.Record], tmp_path: Path
) -> None:
    worker = start_worker()
    address = await started(worker)
    job_id = await submit(pool, "shop:waits")
    await until((tmp_path / "waiting").exists)

    assert await Scheduler(pool, tenant=TENANT).cancel_job(job_id)

    await is_counted(address, {("pgscheduler_worker_attempts_ended_total", TENANT, "discarded"): 1})
    assert worker.err.count("which is no longer current: discarded") == 1


async def test_rescued_orphans_are_counted(start_worker: StartCommand, pool: asyncpg.Pool[asyncpg.Record]) -> None:
    await pool.execute(
        "INSERT INTO scheduled_jobs (job_id, task, job_name, task_data, execution_time, status, worker_id, started_at,"
        " attempt, token, on_interrupt)"
        " SELECT 'o' || n, 'elsewhere', 'o', '{}', now(), 'running', 'gone', now(), 1, n,"
        " CASE WHEN n > 2 THEN 'fail' ELSE 'retry' END FROM generate_series(1, 3) n"
    )

    address = await started(start_worker())

    rescued = "pgscheduler_worker_orphans_rescued_total"
    await is_counted(address, {(rescued, "pending"): 2, (rescued, "failed"): 1})


async def test_ticks_made_are_counted(start_worker: StartCommand, pool: asyncpg.Pool[asyncpg.Record]) -> None:
    await pool.execute(
        "INSERT INTO scheduler_schedules (tenant, source_kind, source_uid, source_name, interval_seconds, anchor_at,"
        " next_tick_at, task, job_name, task_data)"
        " VALUES ($1, 'PeriodicJob', 'u', 'n', 3600, now() - interval '1 hour', now(), 'elsewhere', 'n', '{}')",
        TENANT,
    )

    address = await started(start_worker())

    await is_counted(address, {("pgscheduler_worker_ticks_made_total", TENANT): 1})


async def write_history(pool: asyncpg.Pool[asyncpg.Record], tenant: str, times: int) -> None:
    """A suspended schedule with ``times`` as many ticks of each outcome as its place in the list, and 1 unaccounted."""
    outcomes = {name: (place + 1) * times for place, name in enumerate(COUNTED[3:], start=1)}
    jobs = {"pending": 2 * times, "completed": 3 * times, "failed": 4 * times}
    schedule = await pool.fetchval(
        "INSERT INTO scheduler_schedules (tenant, source_kind, source_uid, source_name, interval_seconds, anchor_at,"
        " suspended, task, job_name, task_data, ticks)"
        " VALUES ($1, 'PeriodicJob', $2, $2, 60, now(), true, 'elsewhere', 'n', '{}', $3) RETURNING id",
        tenant,
        f"{CANARY}-{tenant}-{times}",
        sum(outcomes.values()) + sum(jobs.values()) + 1,
    )
    for outcome, ticks in outcomes.items():
        await pool.execute(
            "INSERT INTO scheduler_occurrences (schedule_id, outcome, first_tick_at, last_tick_at, ticks, reason)"
            " VALUES ($1, $2, '2026-01-01', '2026-01-02', $3, $4)",
            schedule,
            outcome,
            ticks,
            CANARY,
        )
    for status, count in jobs.items():
        await pool.execute(
            "INSERT INTO scheduled_jobs (job_id, tenant, task, job_name, task_data, execution_time, status,"
            " finished_at, schedule_id, tick_at, source_kind, source_uid)"
            " SELECT $2 || $1 || $3 || n, $2, 'elsewhere', 'n', '{}', now(), $3,"
            " CASE WHEN $3 <> 'pending' THEN now() END, $1::text::bigint, now() + make_interval(secs => n),"
            " 'PeriodicJob', 'u' FROM generate_series(1, $4) n",
            str(schedule),
            tenant,
            status,
            count,
        )


async def test_ledger_figures_are_those_of_the_view_and_of_this_tenant(
    start_worker: StartCommand, pool: asyncpg.Pool[asyncpg.Record]
) -> None:
    await write_history(pool, TENANT, 1)
    await write_history(pool, TENANT, 2)
    await write_history(pool, "another", 5)

    address = await started(start_worker())

    columns = ", ".join(f"sum({name})::int AS {name}" for name in (*COUNTED, "open", "unaccounted"))
    view = await pool.fetchrow(f"SELECT {columns} FROM scheduler_ledger WHERE tenant = $1", TENANT)  # noqa: S608
    assert view is not None
    assert (view["failed"], view["open"], view["unaccounted"]) == (12, 6, 2)
    await is_counted(
        address,
        {
            **{("pgscheduler_schedule_ticks_total", TENANT, name): view[name] for name in COUNTED},
            ("pgscheduler_schedule_ticks_open", TENANT): view["open"],
            ("pgscheduler_schedule_ticks_unaccounted", TENANT): view["unaccounted"],
        },
    )
    seen = await samples(address)
    assert {name[1] for name in seen if name[0].startswith("pgscheduler_schedule_")} == {TENANT}
    assert 0 <= seen["pgscheduler_schedule_ledger_age_seconds", TENANT] < 60


async def test_nothing_of_a_job_or_a_schedule_is_served(
    start_worker: StartCommand, pool: asyncpg.Pool[asyncpg.Record]
) -> None:
    await write_history(pool, TENANT, 1)
    address = await started(start_worker())
    scheduler = Scheduler(pool, tenant=TENANT)
    arguments = {"args": [CANARY]}
    await scheduler.schedule_job("shop:pays", datetime.now(UTC), arguments, job_id=CANARY)
    await scheduler.schedule_job("shop:fails", datetime.now(UTC), arguments, job_id=f"{CANARY}-2")
    ended = ("pgscheduler_worker_attempts_ended_total", TENANT)
    await is_counted(address, {(*ended, "completed"): 1, (*ended, "failed"): 1})
    await is_counted(address, {("pgscheduler_schedule_ticks_unaccounted", TENANT): 1})

    pages = [await get(f"{address}/{page}") for page in ("livez", "readyz", "metrics", CANARY.upper())]

    assert [status for status, _ in pages] == [200, 200, 200, 404]
    assert [text for _, text in pages if CANARY in text] == []


async def test_port_in_use_is_one_clear_error(pgscheduler: RunCommand, dsn: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"

        ended = pgscheduler("worker", "--http", address, env={"PGSCHEDULER_DSN": dsn})

    said = ended.require_block("PGS-016", exit_code=1)
    assert said.startswith(f"error PGS-016: cannot listen on {address}: Address already in use\n")


@pytest.mark.parametrize(
    "address", ["8080", ":8080", "host", "host:", "host:65536", "::1:80", "a:s3cret@b:80", "[x]:1"]
)
def test_wrong_address_is_exit_2(pgscheduler: RunCommand, address: str) -> None:
    ended = pgscheduler("worker", "--dsn", "postgresql://a@b/c", "--http", address)

    assert ended.exit_code == 2
    assert "is no HOST:PORT, such as 0.0.0.0:8080 or [::]:8080" in ended.err


async def test_ipv6_address_is_served_and_shown_in_brackets(start_pgscheduler: StartCommand) -> None:
    worker = start_pgscheduler("worker", "--http", "[::1]:0", env={"PGSCHEDULER_DSN": UNREACHABLE})
    await worker.says("probes and metrics at http://[::1]:")
    (address,) = re.findall(r"probes and metrics at (\S+)", worker.err)

    assert await get(f"{address}/livez") == (200, "ok\n")


async def test_nothing_is_served_unless_asked_for(dsn: str, start_pgscheduler: StartCommand) -> None:
    worker = start_pgscheduler("worker", env={"PGSCHEDULER_DSN": dsn})

    await worker.says(STARTED)

    assert "probes and metrics" not in worker.err


PAGE = ROOT / "docs" / "reference" / "metrics.md"


def test_every_metric_is_in_the_reference() -> None:
    rows = re.findall(r"^\| `(pgscheduler_\w+)` \| (\w+) \| (.*?) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)

    documented = [(name, kind, tuple(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows]
    assert documented == [(metric.name, metric.kind, metric.labels) for metric in METRICS]


def test_every_value_of_a_label_and_every_reason_is_in_the_reference() -> None:
    page = PAGE.read_text(encoding="utf-8")
    reasons = (probes.STARTING, probes.STOPPING, probes.LEASE, probes.DEAD)
    attempts = ("completed", "failed", "retried", "snoozed", "cancelled", "handed_back", "discarded")

    assert [word for word in (*reasons, *COUNTED, *attempts) if f"`{word}`" not in page] == []
