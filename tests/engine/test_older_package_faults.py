"""What the older package does wrong and this one does right: each row of design page 3 §3.4 and the tests that hold it.

Invariant: no row is without a test that exists. A figure in milliseconds is no test's to judge on a shared machine:
beside such a row stand the order of events that it comes of, and the scenario of ``make bench`` that measures it.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import signal
import sys
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from typing import TYPE_CHECKING

import pytest

from pg_scheduler import JobPriority, JobSpec, Scheduler
from pg_scheduler._engine import lifecycle
from pg_scheduler._engine.config import EngineConfig
from support.paths import ROOT
from support.waiting import PATIENCE, until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    import asyncpg

    from engine.conftest import MakeScheduler
    from support.world import World

pytestmark = pytest.mark.newest_postgres

HERE = "tests/engine/test_older_package_faults.py"
LEASE = "tests/faults/test_older_package_faults_lease.py"
OUTAGES = "tests/faults/test_outages.py"
RUNNING = "tests/engine/test_running_jobs.py"
SCHEDULES = "tests/store/test_schedules.py"

ROWS: dict[str, tuple[str, ...]] = {
    "worker restarted, 100 pending jobs": (
        f"{HERE}::test_a_worker_restarted_with_100_pending_jobs_fails_none_and_claims_none_that_it_does_not_know",
        f"{RUNNING}::test_an_unknown_task_stays_pending",
    ),
    "SIGKILL mid-job: second start": (
        f"{LEASE}::test_sigkill_mid_job_second_start_within_20_seconds_with_the_default_lease",
    ),
    "a job that kills its worker, max_retries=0": (
        f"{LEASE}::test_a_job_that_kills_its_worker_ends_failed_and_its_neighbours_lose_one_attempt_at_most",
    ),
    "PostgreSQL away 3 s, 36 running": (
        f"{OUTAGES}::test_postgresql_away_for_ten_leases_with_40_running_finishes_none_twice_and_loses_no_result",
    ),
    "frozen worker comes back": (
        f"{LEASE}::test_frozen_worker_comes_back_under_a_new_name_and_its_late_result_is_refused_20_of_20",
    ),
    "loop blocked 100 s by CPU work": (
        f"{LEASE}::test_loop_blocked_by_sleep_or_cpu_work_is_one_start_unless_the_gil_is_held",
    ),
    "schedule after an outage longer than its grace": (f"{SCHEDULES}::test_after_an_outage_the_next_tick_is_on_time",),
    "every=1s over 130 s; every=5s with a 3 s job": (
        f"{SCHEDULES}::test_ticks_stay_on_a_fixed_grid_over_130_seconds",
        f"{SCHEDULES}::test_a_long_job_does_not_move_the_grid",
        "tests/engine/test_periodic.py::test_ten_seconds_make_ten_runs_on_a_fixed_grid_whatever_the_job_takes",
    ),
    "seconds in cron": (f"{SCHEDULES}::test_seconds_of_a_cron_rule_all_run",),
    "daily cron on the autumn night": (f"{SCHEDULES}::test_a_daily_rule_runs_once_in_a_night_that_changes_the_clocks",),
    "use_advisory_lock": (
        "tests/engine/test_keys.py::test_use_advisory_lock_holds_in_26_of_26_runs_over_two_schedulers",
    ),
    "REPLACE of a running job": (
        "tests/store/test_claims.py::test_replace_of_a_running_job_fences_it_off_and_waits_for_its_end",
        f"{RUNNING}::test_a_replaced_job_runs_anew_although_its_old_run_ended_by_itself",
    ),
    "cancel of a running job": (f"{RUNNING}::test_cancel_tells_a_running_job_within_a_second_on_whichever_worker",),
    "SIGTERM under uvicorn or plain": (
        f"{HERE}::test_sigterm_ends_a_program_whether_it_handles_it_or_not",
        f"{HERE}::test_signals_are_for_the_command_line_alone",
        "tests/engine/test_lifecycle.py::test_an_idle_shutdown_waits_for_nothing",
        "tests/surface/test_worker_command.py::test_idle_worker_ends_in_order_on_a_signal",
    ),
    "shutdown with a long job": (
        f"{HERE}::test_a_shutdown_with_default_settings_ends_before_30_seconds",
        f"{LEASE}::test_shutdown_with_long_jobs_by_sigterm_hands_the_rows_back_within_a_second",
    ),
    "backlog behind busy slots": ("tests/engine/test_misfire.py::test_backlog_behind_busy_slots_never_expires_a_job",),
    "worker clock ±10 min": (
        "tests/engine/test_misfire.py::test_a_clock_that_is_ten_minutes_off_expires_and_starts_nothing",
        "tests/architecture/test_clock.py::test_worker_clock_is_never_read",
    ),
    "idle lateness, defaults": (
        "tests/engine/test_starts.py::test_each_job_starts_at_its_time_and_none_before",
        f"{RUNNING}::test_a_job_of_another_process_wakes_an_idle_worker_before_its_poll",
        "benchmarks/scenarios/lateness.py::run",
        "benchmarks/scenarios/pickup.py::run",
    ),
    "100 ms jobs, 5 slots": (f"{HERE}::test_a_slot_that_becomes_free_is_taken_at_once_and_not_with_the_next_poll",),
    "idle poll with 1M future jobs": (
        "tests/store/test_queries.py::test_hot_statement_uses_its_index",
        "benchmarks/scenarios/idle.py::run",
    ),
    "start order in a batch": (f"{RUNNING}::test_jobs_of_one_claim_start_by_priority_then_time",),
    "own TimeoutError of a job": ("tests/engine/test_calls.py::test_a_timeout_is_told_from_the_jobs_own",),
    "error record": (
        f"{RUNNING}::test_a_failed_job_keeps_its_error_and_is_retried_later",
        "tests/unit/test_outcomes.py::test_an_error_record_keeps_the_end_of_a_long_text",
    ),
    "exception text with NUL, CancelledError inside a job": (
        f"{RUNNING}::test_an_error_with_a_nul_is_recorded",
        f"{RUNNING}::test_a_cancelled_error_of_the_jobs_own_making_is_a_failure",
    ),
    "two schedulers in one process; two functions of one name": (
        f"{HERE}::test_two_schedulers_in_one_process_run_their_own_functions_of_one_name",
        "tests/unit/test_tasks.py::test_two_functions_of_one_name_in_two_modules_both_run",
    ),
    "expired rows; a long job that ended just now": (
        "tests/engine/test_retention.py::test_the_defaults_delete_each_status_after_its_days_by_its_end",
    ),
}


@cache
def functions_of(path: Path) -> set[str]:
    return {
        node.name
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


@pytest.mark.parametrize("row", ROWS)
def test_row_is_held_by_tests_that_exist(row: str) -> None:
    holders = ROWS[row]
    missing = [
        holder for holder in holders for path, name in [holder.split("::")] if name not in functions_of(ROOT / path)
    ]

    assert holders
    assert missing == []


def now() -> datetime:
    return datetime.now(UTC)


async def test_a_worker_restarted_with_100_pending_jobs_fails_none_and_claims_none_that_it_does_not_know(
    world: World, pool: asyncpg.Pool[asyncpg.Record]
) -> None:
    ran: list[int] = []

    async def send(number: int) -> None:
        ran.append(number)

    async def check() -> None: ...

    async with Scheduler(pool) as first:
        for number in range(100):
            await first.schedule(send, execution_time=now() + timedelta(hours=1), args=(number,))
    await world.pool.execute("UPDATE scheduled_jobs SET execution_time = now()")

    async def states() -> dict[tuple[str, int], int]:
        rows = await world.pool.fetch(
            "SELECT status, attempt, count(*) FROM scheduled_jobs WHERE job_name = 'send' GROUP BY 1, 2"
        )
        return {(row["status"], row["attempt"]): row["count"] for row in rows}

    async with Scheduler(pool) as restarted:
        job_id = await restarted.schedule(check, execution_time=now(), priority=JobPriority.LOW)

        async def has_looked_past_them() -> bool:
            return bool((await world.row(job_id))["status"] == "completed")

        await until(has_looked_past_them)
        not_known = await states()
        restarted.register(send)
        await world.jobs.wake_workers()
        await until(lambda: len(ran) == 100)
    assert not_known == {("pending", 0): 100}
    assert await states() == {("completed", 1): 100}
    assert sorted(ran) == list(range(100))


HOST = """
import asyncio, signal, sys, time
import asyncpg
from pg_scheduler import Scheduler

async def serve(handles):
    # As uvicorn does: its own handlers while it serves, the earlier ones back, then the same signal once more.
    asked, caught = asyncio.Event(), []
    loop = asyncio.get_running_loop()
    def received(number, frame):
        caught.append(number)
        loop.call_soon_threadsafe(asked.set)
    if handles:
        earlier = signal.signal(signal.SIGTERM, received)
    async with asyncpg.create_pool(sys.argv[1], min_size=1) as pool:
        scheduler = Scheduler(pool)
        await scheduler.start()
        print("started", flush=True)
        await asked.wait()
        begun = time.monotonic()
        await scheduler.shutdown()
        print("shut down in", time.monotonic() - begun, flush=True)
    signal.signal(signal.SIGTERM, earlier)
    for number in caught:
        signal.raise_signal(number)

asyncio.run(serve(sys.argv[2] == "handles"))
"""


@pytest.mark.parametrize("host", ["handles", "does not"])
async def test_sigterm_ends_a_program_whether_it_handles_it_or_not(dsn: str, host: str) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HOST, dsn, host, stdout=asyncio.subprocess.PIPE, env={"PYTHONPATH": str(ROOT / "worker")}
    )
    assert process.stdout is not None
    assert await asyncio.wait_for(process.stdout.readline(), PATIENCE) == b"started\n"

    process.send_signal(signal.SIGTERM)

    said = (await asyncio.wait_for(process.stdout.read(), PATIENCE)).decode()
    assert await process.wait() == -signal.SIGTERM
    assert said.startswith("shut down in ") == (host == "handles")
    assert not said or float(said.split()[-1]) < 1


def test_signals_are_for_the_command_line_alone() -> None:
    library = ROOT / "worker" / "pg_scheduler"
    handlers = {"signal.signal", "add_signal_handler"}
    users = {
        path.relative_to(library).parts[0]
        for path in library.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and {ast.unparse(node), node.attr} & handlers
    }

    assert users == {"cli"}


def test_a_shutdown_with_default_settings_ends_before_30_seconds() -> None:
    """Kubernetes kills after 30; what jobs get, and what they get to notice that they are told to stop."""
    waits = EngineConfig().shutdown_seconds

    assert inspect.signature(Scheduler).parameters["shutdown_timeout"].default == waits
    assert waits + lifecycle.CANCEL_SECONDS <= 27.5


@pytest.mark.usefixtures("unpolled")
async def test_a_slot_that_becomes_free_is_taken_at_once_and_not_with_the_next_poll(
    world: World, started: MakeScheduler
) -> None:
    """So five slots of 100 ms jobs turn over fifty times a second, less what a claim takes."""
    slots, jobs = 5, 25
    running: list[asyncio.Event] = []

    async def send() -> None:
        running.append(asyncio.Event())
        await running[-1].wait()

    await Scheduler(world.pool).schedule_bulk([JobSpec(send, now()) for _ in range(jobs)])
    await started(send, max_concurrent_jobs=slots)

    def have_started(count: int) -> bool:
        return len(running) == count

    for freed in range(jobs - slots):
        await until(partial(have_started, slots + freed))
        running[freed].set()
    await until(partial(have_started, jobs))
    for each in running:
        each.set()


def named(module: str, told: list[str]) -> Callable[[str], Awaitable[None]]:
    """A function ``send`` of that module."""

    async def send(to: str) -> None:
        told.append(f"{module} to {to}")

    send.__module__, send.__qualname__ = module, "send"
    return send


async def test_two_schedulers_in_one_process_run_their_own_functions_of_one_name(started: MakeScheduler) -> None:
    told: list[str] = []
    shop, mail = named("shop", told), named("mail", told)
    first = await started(shop)
    second = await started(mail)

    for number in range(10):
        await first.schedule(shop, execution_time=now(), args=(f"shop {number}",))
        await second.schedule(mail, execution_time=now(), args=(f"mail {number}",))

    await until(lambda: len(told) == 20)
    assert sorted(told) == sorted(
        f"{module} to {module} {number}" for module in ("shop", "mail") for number in range(10)
    )
