"""``pgscheduler worker``: its tasks, its signals, and what it says when something is missing."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import asyncpg
import pytest

from pg_scheduler import Scheduler, VacuumConfig
from pg_scheduler.cli.retention import retention_given
from pg_scheduler.cli.worker import worker as worker_command
from pg_scheduler.control import Control
from support.databases import EMPTY
from support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.commands import RunCommand, Running, StartCommand

TENANT = "shop"
APP = """
import asyncio
import pathlib
from pg_scheduler import task

async def note(text):
    pathlib.Path("noted").write_text(text)

@task(name="shop.sleep")
async def _sleep():
    pathlib.Path("sleeping").touch()
    await asyncio.sleep(60)

async def stubborn():
    pathlib.Path("sleeping").touch()
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            pass
"""

ENDED_JOBS = """
SELECT scheduler_enqueue('t', tenant => 'shop', job_id => status || '-' || days)
FROM unnest(ARRAY['completed', 'failed', 'cancelled', 'expired']) status, unnest(ARRAY[4, 8]) days;
UPDATE scheduled_jobs SET status = split_part(job_id, '-', 1),
       finished_at = now() - make_interval(days => split_part(job_id, '-', 2)::integer)
"""


@pytest.fixture
def start_worker(dsn: str, start_pgscheduler: StartCommand, tmp_path: Path) -> StartCommand:
    """Start a worker on the test's database, beside ``shop.py``."""
    (tmp_path / "shop.py").write_text(APP)

    def start(*arguments: str, to: str = dsn, stdin: int = subprocess.DEVNULL) -> Running:
        env = {"PGSCHEDULER_DSN": to, "PGSCHEDULER_TENANT": TENANT}
        return start_pgscheduler("worker", *arguments, env=env, stdin=stdin)

    return start


STARTED = "started with"


async def submit(pool: asyncpg.Pool, task: str, *args: object) -> str:
    scheduler = Scheduler(pool, tenant=TENANT)
    return await scheduler.schedule_job(task, datetime.now(UTC), {"args": list(args)})


async def status_of(pool: asyncpg.Pool, job_id: str) -> str:
    return str(await pool.fetchval("SELECT status FROM scheduled_jobs WHERE job_id = $1", job_id))


async def completed(pool: asyncpg.Pool, job_id: str) -> None:
    async def is_completed() -> bool:
        return await status_of(pool, job_id) == "completed"

    await until(is_completed)


@pytest.mark.parametrize("app", ["shop.py", "shop"])
async def test_worker_runs_what_its_app_defines(
    start_worker: StartCommand, pool: asyncpg.Pool, tmp_path: Path, app: str
) -> None:
    worker = start_worker(app)
    await worker.says(STARTED)

    job_id = await submit(pool, "shop:note", "hello")

    await completed(pool, job_id)
    assert (tmp_path / "noted").read_text() == "hello"
    assert "4 tasks: pgscheduler.ping, shop.sleep, shop:note, shop:stubborn" in worker.err


async def test_worker_without_app_answers_ping(start_worker: StartCommand, pool: asyncpg.Pool) -> None:
    worker = start_worker("--log-format", "json")
    await worker.says(STARTED)

    job_id = await submit(pool, "pgscheduler.ping")

    await completed(pool, job_id)
    records = [json.loads(line) for line in worker.err_lines]
    assert any(record["message"].startswith("ping: worker ") for record in records)
    assert all(record["level"] == "INFO" and record["time"].endswith("Z") for record in records)


async def test_factory_makes_the_scheduler(start_worker: StartCommand, pool: asyncpg.Pool, tmp_path: Path) -> None:
    (tmp_path / "shop_app.py").write_text(
        "from pg_scheduler import Scheduler\n"
        "import shop\n"
        "def make(pool):\n"
        "    scheduler = Scheduler(pool, queues=('mail',))\n"
        "    scheduler.register(shop)\n"
        "    return scheduler\n"
    )
    worker = start_worker("shop_app:make")

    await worker.says(STARTED)

    assert await pool.fetchval("SELECT queues FROM scheduler_workers WHERE tenant = $1", TENANT) == ["mail"]
    assert "shop:note" in worker.err


async def test_options_reach_the_worker_row(start_worker: StartCommand, pool: asyncpg.Pool) -> None:
    worker = start_worker("--queues", "mail, slow", "--slots", "3", "--lease", "120")

    await worker.says(STARTED)

    row = await pool.fetchrow(
        "SELECT queues, slots, tasks, lease_until - scheduler_now() AS lease FROM scheduler_workers WHERE tenant = $1",
        TENANT,
    )
    assert row is not None
    assert (row["queues"], row["slots"], row["tasks"]) == (["mail", "slow"], 3, ["pgscheduler.ping"])
    assert 60 < row["lease"].total_seconds() < 121  # a beat may have its moment after that of this look


async def test_worker_keeps_what_its_options_say(start_worker: StartCommand, pool: asyncpg.Pool) -> None:
    await pool.execute(ENDED_JOBS)

    start_worker(
        *("--retention-completed", "forever", "--retention-failed", "last 1"),
        *("--retention-cancelled", "5d", "--retention-expired", "0d"),
    )

    async def left() -> bool:
        rows = await pool.fetch("SELECT status, finished_at < now() - interval '5 days' AS is_old FROM scheduled_jobs")
        assert sorted(map(tuple, rows)) == [
            ("cancelled", False),
            ("completed", False),
            ("completed", True),
            ("failed", False),
        ]
        return True

    await until(left)


def test_what_a_worker_keeps_unless_told_is_what_the_library_keeps() -> None:
    with worker_command.make_context("worker", ["--dsn", "postgresql://a@b/c"]) as context:
        assert retention_given(context.params) == VacuumConfig()


@pytest.mark.parametrize(("number", "expected"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
async def test_idle_worker_ends_in_order_on_a_signal(
    start_worker: StartCommand, pool: asyncpg.Pool, number: signal.Signals, expected: int
) -> None:
    worker = start_worker("--shutdown-timeout", "600")
    await worker.says(STARTED)

    worker.process.send_signal(number)

    assert worker.wait() == expected
    assert await pool.fetchval("SELECT count(*) FROM scheduler_workers WHERE state = 'alive'") == 0


async def test_running_job_is_handed_back_after_the_shutdown_timeout(
    start_worker: StartCommand, pool: asyncpg.Pool, tmp_path: Path
) -> None:
    worker = start_worker("shop.py", "--shutdown-timeout", "0.2")
    await worker.says(STARTED)
    job_id = await submit(pool, "shop.sleep")
    await until((tmp_path / "sleeping").exists)

    worker.process.terminate()

    assert worker.wait() == 0
    assert await status_of(pool, job_id) == "pending"


async def test_second_signal_ends_a_worker_at_once(
    start_worker: StartCommand, pool: asyncpg.Pool, tmp_path: Path
) -> None:
    worker = start_worker("shop.py", "--shutdown-timeout", "600")
    await worker.says(STARTED)
    await submit(pool, "shop:stubborn")
    await until((tmp_path / "sleeping").exists)
    worker.process.terminate()
    await worker.says("SIGTERM: shutting down")

    worker.process.terminate()

    assert worker.wait() == 130


async def test_signal_ends_a_start_that_waits_for_a_lock(start_worker: StartCommand, pool: asyncpg.Pool) -> None:
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("LOCK scheduler_workers")
        worker = start_worker()

        async def waits() -> bool:
            return bool(await pool.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"))

        await until(waits)
        worker.process.terminate()
        code = await asyncio.to_thread(worker.wait)

    assert code == 0
    assert STARTED not in worker.err
    assert await pool.fetchval("SELECT count(*) FROM scheduler_workers") == 0


async def test_worker_ends_with_the_process_that_holds_its_input(start_worker: StartCommand) -> None:
    worker = start_worker("--until-stdin-closes", stdin=subprocess.PIPE)
    await worker.says(STARTED)
    assert worker.process.stdin is not None

    worker.process.stdin.close()

    assert worker.wait() == 0


UNREACHABLE = "postgresql://app:s3cret@127.0.0.1:1/app"


async def test_interrupt_during_an_import_cannot_be_swallowed(
    pgscheduler: RunCommand, dsn: str, tmp_path: Path
) -> None:
    (tmp_path / "swallows.py").write_text(
        "import os, signal, time\n"
        "try:\n    os.kill(os.getpid(), signal.SIGINT)\n    time.sleep(1)\nexcept KeyboardInterrupt:\n    pass\n"
    )

    ended = pgscheduler("worker", "swallows.py", env={"PGSCHEDULER_DSN": dsn})

    assert (ended.exit_code, ended.err) == (130, "")


async def test_worker_waits_for_its_database_and_then_exits_3(start_worker: StartCommand) -> None:
    worker = start_worker("--database-wait", "1.2", to=UNREACHABLE)

    assert worker.wait() == 3
    assert "try 1: cannot reach PostgreSQL" in worker.err
    assert "try 2: cannot reach PostgreSQL" in worker.err
    assert "tried: 3 times in 1 s" in worker.err
    assert "s3cret" not in worker.err


async def test_worker_that_is_not_to_migrate_waits_for_the_tables(
    start_worker: StartCommand, new_database: Callable[..., str]
) -> None:
    dsn = new_database(template=EMPTY)
    worker = start_worker("--no-migrate", to=dsn)
    await worker.says("waiting for the tables: PGS-019 schema 0 < ")

    async with Control(dsn) as somebody:
        assert await somebody.pending_migrations()
        await somebody.migrate()

    await worker.says(STARTED)
    assert worker.err.count("PGS-019") == 1


async def test_worker_whose_login_may_not_migrate_waits_for_the_owner(
    start_worker: StartCommand, new_database: Callable[..., str]
) -> None:
    dsn = new_database(template=EMPTY)
    owner = await asyncpg.connect(dsn)
    await owner.execute("CREATE ROLE may_not_migrate LOGIN")
    for kind in ("TABLES", "SEQUENCES"):
        await owner.execute(f"ALTER DEFAULT PRIVILEGES GRANT ALL ON {kind} TO may_not_migrate")
    await owner.close()
    worker = start_worker(to=dsn.replace("postgres@", "may_not_migrate@", 1))
    await worker.says("this login may not change the tables")

    async with Control(dsn) as control:
        await control.migrate()

    await worker.says(STARTED)


async def test_signal_ends_the_wait_for_the_database(start_worker: StartCommand) -> None:
    worker = start_worker(to=UNREACHABLE)
    await worker.says("try 1")

    worker.process.terminate()

    assert worker.wait(3) == 0


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("nowhere.py",), "PGS-006", "no such file: nowhere.py"),
        (("nothing.py",), "PGS-006", "nothing.py holds no task"),
        (("nowhere_at_all",), "PGS-006", "no module named nowhere_at_all"),
        (("nothing:make",), "PGS-006", "returned a str, not a Scheduler"),
        (("nothing:make", "twice:make"), "PGS-006", "two factories: nothing:make and twice:make"),
        (("nothing:fails",), "PGS-006", "nothing:fails raised: LookupError: no"),
        (("clash.py", "shop.py"), "PGS-001", "task key 'shop.sleep' is taken"),
    ],
)
async def test_wrong_app_is_one_clear_error(
    pgscheduler: RunCommand, dsn: str, tmp_path: Path, arguments: tuple[str, ...], code: str, said: str
) -> None:
    (tmp_path / "shop.py").write_text(APP)
    (tmp_path / "nothing.py").write_text(
        "from asyncio import sleep\n"
        "async def _private(): ...\n"
        "def make(pool): return 'no'\n"
        "def fails(pool): raise LookupError('no')\n"
    )
    (tmp_path / "twice.py").write_text("def make(pool): return 'no'\n")
    (tmp_path / "clash.py").write_text(
        "from pg_scheduler import task\n@task(name='shop.sleep')\nasync def other(): ...\n"
    )

    ended = pgscheduler("worker", *arguments, env={"PGSCHEDULER_DSN": dsn})

    assert said in ended.require_block(code, exit_code=2)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "Missing option '--dsn' (env var: 'PGSCHEDULER_DSN')"),
        (("--dsn", "postgresql://a@b/c", "--dsn-file", "f"), "give --dsn or --dsn-file, not both"),
        (("--dsn", "postgresql://a@b/c", "--slots", "0"), "PGSCHEDULER_SLOTS'): 0 is not in the range"),
        (("--dsn", "postgresql://a@b/c", "--lease", "abc"), "PGSCHEDULER_LEASE'): 'abc' is not a number of seconds"),
        (("--dsn", "postgresql://a@b/c", "--lease", "nan"), "PGSCHEDULER_LEASE'): 'nan' is not a number of seconds"),
        (("--dsn", "postgresql://a@b/c", "--lease", "0"), "PGSCHEDULER_LEASE'): 0.0 is not in the range 1<=x<=86400"),
        (("--dsn", "postgresql://a@b/c", "--lease", "1e9"), "1000000000.0 is not in the range 1<=x<=86400"),
        (
            ("--dsn", "postgresql://a@b/c", "--retention-failed", "1h"),
            "RETENTION_FAILED'): '1h' does not say",
        ),
        (("--dsn", "postgresql://a@b/c", "--retention-expired", "10000d"), "'10000d' does not say what is kept"),
        (("--dsn", "postgresql://a@b/c", "--retention-completed", "last 1000000000"), "'last 1000000000' does not say"),
        (("--dsn", "postgresql://a@b/c", "--retention-keys", "forever"), "'forever' is no number of days: give 0d to"),
        (
            ("--dsn", "postgresql://a@b/c", "--retention-keys", "1d", "shop:make"),
            "keys is for shop:make to say",
        ),
        (("--dsn", "postgresql://a@b/c", "--no-migrate", "shop:make"), "--migrate is for shop:make to say"),
        (("--dsn", "postgresql://a@b/c", "--queues", "a,,b"), "PGSCHEDULER_QUEUES'): give names separated by commas"),
        (("--dsn", "postgresql://a@b/c", "--slots", "3", "shop:make"), "--slots is for shop:make to say"),
        (("--dns", "postgresql://a:s3cret@b/c"), "No such option '--dns'"),
    ],
)
def test_wrong_usage_is_exit_2(pgscheduler: RunCommand, arguments: tuple[str, ...], said: str) -> None:
    ended = pgscheduler("worker", *arguments)

    assert ended.exit_code == 2
    assert said in ended.err
    assert "s3cret" not in ended.err
    assert "Traceback" not in ended.err


async def test_worker_whose_engine_dies_ends_with_the_reason(start_worker: StartCommand, pool: asyncpg.Pool) -> None:
    worker = start_worker("--shutdown-timeout", "1", "--lease", "3")
    await worker.says(STARTED)

    await pool.execute("DROP TABLE scheduled_jobs CASCADE")

    assert worker.wait() == 1
    assert "error PGS-013: " in worker.err


async def test_worker_reads_its_dsn_from_a_file(dsn: str, start_pgscheduler: StartCommand, tmp_path: Path) -> None:
    (tmp_path / "dsn").write_text(f"{dsn}\n")

    worker = start_pgscheduler("worker", env={"PGSCHEDULER_DSN_FILE": str(tmp_path / "dsn")})

    await worker.says(" started with ")


def test_file_of_the_dsn_that_is_not_there_is_said_without_its_path(pgscheduler: RunCommand) -> None:
    ended = pgscheduler("worker", "--dsn-file", "s3cret-file")

    block = ended.require_block("PGS-005", exit_code=2)
    assert "FileNotFoundError" in block
    assert "--dsn-file" in block
