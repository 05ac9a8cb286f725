"""A drain in a table that keeps millions of ended jobs, against the same drain in an empty one.

The ended rows are written by SQL into the table's documented columns, since nobody waits for ten million jobs to run.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from functools import partial
from statistics import median
from typing import TYPE_CHECKING

import asyncpg

from benchmarks.bench import Bench, Scenario
from benchmarks.draining import drain, drain_in
from benchmarks.figures import Figure, Goal, compared
from benchmarks.processes import LARGE

if TYPE_CHECKING:
    from benchmarks.child import Side

ROWS = {"rows": 1_000_000, "rows-10m": 10_000_000}
PENDING_SHARE = 0.01
CHUNK = 500_000
ENDED: dict[Side, str] = {
    "ours": """
INSERT INTO scheduled_jobs
    (job_id, task, job_name, task_data, execution_time, worker_id, started_at, finished_at, status)
SELECT 'ended-' || n, 'benchmarks.tasks:noop', 'noop', '{"args": [], "kwargs": {}}',
    now() - interval '2 hours', 'gone', now() - interval '1 hour', now() - interval '1 hour', 'completed'
FROM generate_series($1::bigint, $2::bigint) n
""",
    "bare": """
INSERT INTO bare_jobs (task, payload, due_at, started_at, finished_at, status)
SELECT 'noop', '{}', now() - interval '2 hours', now() - interval '1 hour', now() - interval '1 hour', 'completed'
FROM generate_series($1::bigint, $2::bigint) n
""",
}
SIDES: tuple[Side, ...] = ("ours", "bare")


async def run(name: str, bench: Bench) -> list[Figure]:
    """The same number of pending jobs in both, in turn."""
    rows = bench.scaled(ROWS[name], least=1000)
    pending = max(20, round(rows * PENDING_SHARE))
    full: dict[Side, list[float]] = {side: [] for side in SIDES}
    empty: dict[Side, list[float]] = {side: [] for side in SIDES}
    async with AsyncExitStack() as stack:
        databases = {side: await stack.enter_async_context(bench.database()) for side in SIDES}
        for side in SIDES:
            await _fill_up(bench, name, side, databases[side], rows - pending)
        for _ in bench.turns(name):
            for side in SIDES:
                drained = await drain_in(databases[side], bench, side, LARGE, pending)
                full[side].append(1e6 / drained.jobs_per_second)
                empty[side].append(1e6 / (await drain(bench, side, LARGE, pending)).jobs_per_second)
    ours, bare = ([each / median(empty[side]) for each in full[side]] for side in SIDES)
    case = f"{rows:,} rows, {pending:,} pending"
    return [
        compared(name, case, "times empty", ours, bare, Goal(of="ours", at_most=1.2)),
        compared(name, case, "µs/job", full["ours"], full["bare"]),
    ]


async def _fill_up(bench: Bench, name: str, side: Side, dsn: str, rows: int) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        for first in range(1, rows + 1, CHUNK):
            bench.say(f"{name}: {side}, {first - 1:,} of {rows:,} ended rows")
            await connection.execute(ENDED[side], first, min(first + CHUNK - 1, rows))
        await connection.execute("VACUUM ANALYZE")
    finally:
        await connection.close()


SCENARIO = Scenario(name="rows", about="1 M rows, 1 % of them pending", run=partial(run, "rows"))
TEN_MILLION = Scenario(
    name="rows-10m",
    about="10 M rows, 1 % of them pending; takes minutes and 10 GB",
    run=partial(run, "rows-10m"),
    usual=False,
)
