"""From a schedule's tick to the first line of its job, with 100 schedules that tick each second; and 10,000 at once.

Ticks lie on whole seconds. *Spread* schedules have a jitter of one second, so that their jobs are due all over it; the
others are due in the same instant, 100 jobs for the seed's 25 slots. Beside both a bare timer, which has no database
and runs through as many instants. For the 10,000 the time counts from the first transaction that makes jobs to the
last.
"""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta

import asyncpg

from benchmarks import tasks
from benchmarks.bench import Bench, Scenario
from benchmarks.figures import Figure, Goal, alone, percentile_figure
from benchmarks.processes import DEFAULTS, workers
from pg_scheduler import Scheduler

SCHEDULES = 100
SECONDS = 8.0
WARM_UP_SECONDS = 2.0
AT_ONCE = 10_000
LOOK_SECONDS = 0.2
GOALS = {50: Goal(of="ours", at_most=1), 99: Goal(of="ours", at_most=3)}
COPY = """
DO $$
DECLARE
    others text;
BEGIN
    SELECT string_agg(quote_ident(attname), ', ') INTO others FROM pg_attribute
    WHERE attrelid = 'scheduler_schedules'::regclass AND attnum > 0 AND NOT attisdropped AND attname NOT IN ('id',
    'source_uid'); EXECUTE format('INSERT INTO scheduler_schedules (source_uid, %1$s) SELECT ''s'' || n, %1$s
                    FROM scheduler_schedules, generate_series(1, {more}) n', others);
    UPDATE scheduler_schedules SET next_tick_at = date_trunc('second', now()) + interval '4 seconds',
                                   anchor_at = date_trunc('second', now()) - interval '86396 seconds';
    ANALYZE scheduler_schedules;
    PERFORM pg_notify('scheduler_schedules', '');
END $$;
"""


async def run(bench: Bench) -> list[Figure]:
    """Spread, at the same instant, and the crowd."""
    spread: list[float] = []
    together: list[float] = []
    timer: list[float] = []
    inserted: list[float] = []
    seconds = max(1.0, SECONDS * min(1.0, bench.scale))
    schedules, at_once = bench.scaled(SCHEDULES), bench.scaled(AT_ONCE)
    for _ in bench.turns("ticks"):
        spread += await _lateness(bench, schedules, seconds, jitter=1)
        together += await _lateness(bench, schedules, seconds, jitter=0)
        timer += await _timer(schedules, seconds)
        inserted.append(await _insert(bench, at_once))
    early = sum(late < 0 for late in spread + together)
    return [
        *(percentile_figure("ticks", f"{schedules}/s, spread", p, spread, timer, goal) for p, goal in GOALS.items()),
        *(percentile_figure("ticks", f"{schedules} at once each second", p, together, timer) for p in GOALS),
        alone("ticks", "early", "jobs", early, Goal(of="ours", at_most=0), samples=len(spread + together)),
        alone(
            "ticks",
            f"{at_once:,} schedules tick",
            "s",
            max(inserted),
            Goal(of="ours", at_most=2),
            samples=len(inserted),
        ),
    ]


async def _lateness(bench: Bench, schedules: int, seconds: float, *, jitter: int) -> list[float]:
    """Milliseconds by which each run began after it was due."""
    async with bench.database() as dsn:
        async with asyncpg.create_pool(dsn, min_size=1, max_size=2) as pool:
            for number in range(schedules):
                await Scheduler(pool).upsert_schedule(
                    f"s{number}", tasks.stamp_tick, every=timedelta(seconds=1), jitter=jitter
                )
        async with workers(1, "ours", dsn, DEFAULTS, bench=bench, tell="end") as (worker,):
            began = time.time_ns() // 1000 + int(WARM_UP_SECONDS * 1e6)
            await asyncio.sleep(WARM_UP_SECONDS + seconds)
        return [(start - due) / 1000 for due, start in worker.starts if due > began]


async def _timer(schedules: int, seconds: float) -> list[float]:
    """What the event loop alone is late by at the same rate."""
    first, late = time.time() + 0.1, list[float]()
    for number in range(round(schedules * seconds)):
        due_at = first + number / schedules
        while (wait := due_at - time.time()) > 0:  # noqa: ASYNC110 - the timer is what is measured
            await asyncio.sleep(wait)
        late.append((time.time() - due_at) * 1000)
    return late


async def _insert(bench: Bench, schedules: int) -> float:
    """Seconds between the first and the last transaction that make the jobs of one tick of so many schedules."""
    async with bench.database() as dsn, asyncpg.create_pool(dsn, min_size=1, max_size=2) as pool:
        await Scheduler(pool).upsert_schedule("s0", tasks.noop, every=timedelta(days=1))
        async with workers(1, "ours", dsn, DEFAULTS, bench=bench, tell="end"):
            await pool.execute(COPY.format(more=schedules - 1))
            await _until_inserted(pool, schedules)
        return float(
            await pool.fetchval(
                "SELECT extract(epoch FROM max(created_at) - min(created_at))::float8 FROM scheduled_jobs"
            )
        )


async def _until_inserted(pool: asyncpg.Pool[asyncpg.Record], schedules: int) -> None:
    while await pool.fetchval("SELECT count(*) FROM scheduled_jobs") < schedules:  # noqa: ASYNC110  another process makes them
        await asyncio.sleep(LOOK_SECONDS)


SCENARIO = Scenario(name="ticks", about="tick to start, with 100 schedules a second, and 10,000 at once", run=run)
