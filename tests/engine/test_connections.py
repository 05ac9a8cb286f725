"""The connections of an engine: kept alive, its own, and never lost by a cancellation."""

from __future__ import annotations

import asyncio
import logging
import socket
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import asyncpg
import pytest

from pg_scheduler import ConflictResolution, JobSpec, PollingConfig, Scheduler
from pg_scheduler._engine.config import EngineConfig
from pg_scheduler._store.connections import connect_like, connect_to, open_pool, open_pool_like
from pg_scheduler._store.database import Database
from pg_scheduler._store.wakeups import JOBS_CHANNEL, Bell, Listening, Polling, choose_wakeups
from pg_scheduler.errors import DatabaseBusy, InvalidArgument, InvalidDsn
from support.databases import NEWEST
from support.own_server import LOOPBACK, own_server
from support.proxy import Proxy
from support.sockets import connected_to
from support.waiting import PATIENCE, until
from support.world import LONG_AGO, World

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator
    from pathlib import Path

    from engine.conftest import MakeScheduler
    from pg_scheduler._store.driver import Pool
    from pg_scheduler._store.jobs import Ahead

KEEPALIVES = {"tcp_keepalives_idle": "10", "tcp_keepalives_interval": "5", "tcp_keepalives_count": "3"}


def now() -> datetime:
    return datetime.now(UTC)


async def nothing() -> None: ...


# Keepalives


def option(end: socket.socket, name: str) -> int:
    return end.getsockopt(socket.IPPROTO_TCP, getattr(socket, name))


async def test_every_connection_that_an_engine_opens_is_kept_alive(dsn: str, started: MakeScheduler) -> None:
    async with Proxy.to(dsn) as proxy:
        scheduler = await started(nothing, dsn=proxy.dsn)
        job_ids = [await scheduler.schedule(nothing, execution_time=now()) for _ in range(5)]
        await until(lambda: _completed(scheduler.db_pool, job_ids))
        port = urlsplit(proxy.dsn).port
        assert port is not None

        ends = list(connected_to(port))
        alive = [end.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) for end in connected_to(port)]
        patience = [
            [
                option(end, name)
                for name in ("TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT")
                if hasattr(socket, name)
            ]
            for end in connected_to(port)
        ]

        assert len(ends) >= 3  # heartbeat, LISTEN, and a pool
        assert set(alive) == {1}
        assert {tuple(values) for values in patience} <= {(5, 3, 10_000), (5, 3)}
        await scheduler.shutdown()


async def test_the_server_watches_a_direct_connection_as_well(pg: int, tmp_path: Path) -> None:
    port = _free_port()
    with own_server(tmp_path / "data", release=pg, hba=[LOOPBACK], listen_addresses="127.0.0.1", port=str(port)):
        dsn = f"postgresql://postgres@127.0.0.1:{port}/postgres"
        first = await open_pool(dsn, size=1, eager=True)
        second = await open_pool_like(first, size=1, command_timeout=3)
        ways: list[asyncpg.Connection[asyncpg.Record]] = [
            await connect_to(dsn, command_timeout=3),
            await connect_like(first, command_timeout=3),
        ]
        for pool in (first, second):
            async with pool.acquire() as pooled:
                assert {name: await pooled.fetchval(f"SHOW {name}") for name in KEEPALIVES} == KEEPALIVES
        for connection in ways:
            assert {name: await connection.fetchval(f"SHOW {name}") for name in KEEPALIVES} == KEEPALIVES
            await connection.close()
        await second.close()
        await first.close()


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


async def _completed(pool: Pool, job_ids: list[str]) -> bool:
    query = "SELECT count(*) FROM scheduled_jobs WHERE job_id = ANY($1) AND status = 'completed'"
    return bool(await pool.fetchval(query, job_ids) == len(job_ids))


# Time limits


@pytest.mark.parametrize("lease", [1.0, 6.0, 18.0, 60.0, 3600.0])
def test_six_statements_fit_into_every_lease(lease: float) -> None:
    config = EngineConfig(lease_seconds=lease)
    assert config.command_seconds == min(3, lease / 6)
    assert 6 * config.command_seconds <= lease
    assert config.connect_seconds <= max(1, lease / 3)


async def test_the_class_constant_sets_the_lease_and_with_it_the_time_limit(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Scheduler, "LEASE_DURATION", 3)
    async with Scheduler(pool) as scheduler:
        lease = await pool.fetchval("SELECT extract(epoch FROM lease_until - now())::float8 FROM scheduler_workers")
        assert 2 < lease < 4  # a beat may have begun after this now() and be seen all the same
        assert scheduler._config.command_seconds == 0.5

    monkeypatch.setattr(Scheduler, "LEASE_DURATION", 0)
    with pytest.raises(InvalidArgument, match="lease_seconds"):
        Scheduler(pool)


# Addresses


@pytest.mark.parametrize("name", ["dsn", "direct_dsn"])
async def test_an_address_that_cannot_be_used_is_refused_without_repeating_it(pool: Pool, name: str) -> None:
    with pytest.raises(InvalidDsn) as caught:
        Scheduler(pool, **{name: "mysql://app:s3cret@db/app"})  # type: ignore[arg-type]
    assert "s3cret" not in str(caught.value)
    assert "s3cret" not in repr(Scheduler(pool, dsn="postgresql://app:s3cret@db/app")._worker._basis)


async def test_the_engine_works_where_its_own_address_points(dsn: str, started: MakeScheduler, pool: Pool) -> None:
    async with Proxy.to(dsn) as proxy:
        scheduler = await started(nothing, dsn=proxy.dsn)
        port = urlsplit(proxy.dsn).port
        assert port is not None

        async def all_its_sessions_come_by_that_way() -> bool:
            sessions = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            return bool(await pool.fetchval(sessions) - pool.get_size() == len(list(connected_to(port))) >= 3)

        await until(all_its_sessions_come_by_that_way)
        await scheduler.shutdown()


# The caller's pool


async def test_a_callers_pool_without_a_free_connection_costs_no_job_and_no_lease(dsn: str, world: World) -> None:
    runs: list[str] = []
    gate = asyncio.Event()

    async with asyncpg.create_pool(dsn, min_size=2, max_size=2) as small:

        async def greedy(name: str) -> None:
            runs.append(name)
            async with small.acquire():
                await gate.wait()

        scheduler = Scheduler(small, lease_seconds=1.5, shutdown_timeout=1)
        async with scheduler:
            first = [await scheduler.schedule(greedy, execution_time=now(), args=(name,)) for name in ("a", "b")]
            await until(lambda: small.get_idle_size() == 0 and len(runs) == 2)
            other = Scheduler(world.pool)
            later = [await other.schedule(greedy, execution_time=now(), args=(f"c{n}",)) for n in range(3)]
            await until(lambda: len(runs) == 5)
            beats = [await _lease_left(world) for _ in range(2)]
            await until(lambda: _beaten_since(world, beats[-1]))
            gate.set()
            await until(lambda: _completed(world.pool, first + later))

    rows = await world.pool.fetch("SELECT interruptions, attempt FROM scheduled_jobs")
    assert {tuple(row) for row in rows} == {(0, 1)}
    assert sorted(runs) == ["a", "b", "c0", "c1", "c2"]


async def _lease_left(world: World) -> datetime:
    left: datetime = await world.pool.fetchval("SELECT max(lease_until) FROM scheduler_workers")
    return left


async def _beaten_since(world: World, lease_until: datetime) -> bool:
    return await _lease_left(world) > lease_until


async def test_a_caller_whose_pool_is_used_up_is_told_so(dsn: str) -> None:
    async with asyncpg.create_pool(dsn, min_size=1, max_size=1) as small, small.acquire():
        database = Database(small, place="here", acquire_seconds=0.05)
        with pytest.raises(DatabaseBusy, match=r"no connection of the pool became free within 0\.05 s"):
            await database.fetchval("SELECT 1")


# Rows that nobody can read

BOUNDS = ["-infinity", "4713-01-01 BC", "0001-01-01 00:00+14"]


@pytest.mark.parametrize("due", BOUNDS)
async def test_a_job_with_a_due_time_that_python_cannot_hold_runs_and_so_do_the_others(
    world: World, started: MakeScheduler, due: str
) -> None:
    assert (await world.jobs.look_ahead("", ["default"], [f"{__name__}:nothing"])).due_in is None
    ids = [await world.pending(task=f"{__name__}:nothing") for _ in range(3)]
    await world.pool.execute(
        "UPDATE scheduled_jobs SET execution_time = $2::text::timestamptz, tick_at = $2::text::timestamptz"
        " WHERE job_id = $1",
        ids[1],
        due,
    )
    await started()
    assert (await world.jobs.look_ahead("", ["default"], [f"{__name__}:nothing"])).due_in is not None
    scheduler = await started(nothing)
    scheduler._registry.add(nothing, f"{__name__}:nothing")

    await until(lambda: _completed(world.pool, ids))


@pytest.mark.parametrize("payload", ["[]", "null", '{"args": 5}', '{"args": ' + "[" * 9000 + "]" * 9000 + "}"])
async def test_a_job_whose_arguments_cannot_be_read_fails_alone(
    world: World, started: MakeScheduler, payload: str
) -> None:
    key = f"{__name__}:nothing"
    ids = [await world.pending(task=key) for _ in range(3)]
    bad = await world.pending(task=key, task_data=payload, execution_time=LONG_AGO)

    scheduler = await started()
    scheduler._registry.add(nothing, key)

    await until(lambda: _completed(world.pool, ids))
    await until(lambda: _ended(world, bad))
    row = await world.row(bad)
    assert (row["status"], row["attempt"]) == ("failed", 1)
    # How deep a nesting Python reads depends on its release: beyond 3.12 it is the call that this one does not fit.
    assert any(text in row["error_message"] for text in ("task_data", "takes 0 positional arguments"))


@pytest.mark.parametrize(
    "odd",
    ["timeout_seconds = -1", "timeout_seconds = 'NaN'", "max_interruptions = -1", "on_full = 'never'", "job_id = ''",
     "concurrency_key = 'k', concurrency_limit = 0", "concurrency_limit = 2", "job_id = repeat('x', 2000)"],
)  # fmt: skip
async def test_a_row_with_odd_values_comes_to_an_end_and_so_do_the_others(
    world: World, started: MakeScheduler, odd: str
) -> None:
    """The schema leaves them to whoever submits: written by hand, they shape that one run and hold up nobody."""
    key = f"{__name__}:nothing"
    ids = [await world.pending(task=key) for _ in range(3)]
    bad = await world.pending(task=key, execution_time=LONG_AGO)
    await world.pool.execute(f"UPDATE scheduled_jobs SET {odd} WHERE job_id = $1", bad)  # noqa: S608  from the list above

    scheduler = await started()
    scheduler._registry.add(nothing, key)

    await until(lambda: _completed(world.pool, ids))
    await until(lambda: _none_open(world))


async def _none_open(world: World) -> bool:
    return bool(await world.pool.fetchval("SELECT count(*) = 0 FROM scheduled_jobs WHERE finished_at IS NULL"))


async def _ended(world: World, job_id: str) -> bool:
    return bool((await world.row(job_id))["finished_at"])


async def test_a_count_at_the_end_of_its_range_stays_there(world: World) -> None:
    worker = await world.worker()
    ids = [await world.pending() for _ in range(2)]
    await world.pool.execute("UPDATE scheduled_jobs SET attempt = 9223372036854775807 WHERE job_id = $1", ids[0])

    assert {job.job_id for job in await world.claim(worker)} == set(ids)


# Cancellation


class CancelledAt:
    """Awaits a coroutine and cancels the task that awaits it at the ``n``-th time that it waits for something."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], n: int) -> None:
        self._coroutine = coroutine
        self._n = n
        self.reached = False

    def __await__(self) -> Generator[Any, Any, Any]:
        waits = 0
        step: Callable[[Any], Any] = self._coroutine.send
        answer: Any = None
        while True:
            try:
                awaited = step(answer)
            except StopIteration as end:
                return end.value
            waits += 1
            task = asyncio.current_task()
            if waits == self._n and task is not None:
                self.reached = True
                task.cancel()
            try:
                step, answer = self._coroutine.send, (yield awaited)
            except BaseException as error:  # noqa: BLE001  the coroutine decides
                step, answer = self._coroutine.throw, error


async def _cancelled_everywhere(work: Callable[[], Coroutine[Any, Any, Any]], check: Callable[[], Any]) -> int:
    """Run ``work`` again and again, cancelled at its first wait, its second, …; how many waits it has."""
    for n in range(1, 200):
        attempt = CancelledAt(work(), n)

        async def run(attempt: CancelledAt = attempt) -> None:
            await attempt

        await asyncio.gather(asyncio.create_task(run()), return_exceptions=True)
        await check()
        if not attempt.reached:
            return n - 1
    raise AssertionError("it waits without end")


@pytest.mark.parametrize("way", ["claim", "complete", "transaction"])
async def test_a_cancellation_at_any_wait_keeps_no_connection_and_leaves_one_outcome(dsn: str, way: str) -> None:
    async with asyncpg.create_pool(dsn, min_size=2, max_size=2) as pool:
        world = World.over(pool)
        worker = await world.worker()

        async def claim() -> None:
            await world.claim(worker, 1)

        async def complete() -> None:
            (job,) = await world.claim(worker, 1)
            await world.jobs.complete([job], worker)

        async def transaction() -> None:
            async with world.db.transaction() as connection:
                await connection.execute("UPDATE scheduled_jobs SET job_name = 'half' WHERE job_id = 'j1'")
                await connection.execute("UPDATE scheduled_jobs SET job_name = 'whole' WHERE job_id = 'j1'")

        async def whole() -> None:
            async with asyncio.timeout(PATIENCE), pool.acquire() as one, pool.acquire() as two:
                assert await one.fetchval("SELECT 1") == await two.fetchval("SELECT 1")
                assert not await one.fetchval(
                    "SELECT count(*) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND state LIKE 'idle in transaction%'"
                )
            assert pool.get_idle_size() == 2
            assert await pool.fetchval("SELECT count(*) FROM scheduled_jobs WHERE job_name = 'half'") == 0

        for _ in range(60):
            await world.pending()
        waits = await _cancelled_everywhere(
            {"claim": claim, "complete": complete, "transaction": transaction}[way], whole
        )

        assert waits >= 2
        states = await pool.fetch("SELECT status, token > 0 AS claimed FROM scheduled_jobs")
        assert all(row["claimed"] == (row["status"] != "pending") for row in states)


# Wake-ups


async def test_notify_is_heard_where_it_arrives(dsn: str, pool: Pool, world: World) -> None:
    bell = Bell()
    rung = bell.subscribe()
    wakeups = await choose_wakeups(
        lambda: connect_to(dsn, command_timeout=3),
        world.db,
        {JOBS_CHANNEL: bell},
        place="here",
        poll_seconds=5,
        polling=PollingConfig(),
    )
    assert isinstance(wakeups, Listening)
    assert (wakeups.pause(None, 9), wakeups.pause(0.3, 9), wakeups.pause_when_full()) == (5, 0.3, 5)
    stopping = asyncio.Event()
    running = asyncio.create_task(wakeups.run(stopping))
    await rung.wait()  # the look at once
    rung.clear()

    await pool.execute("SELECT pg_notify('scheduler_wakeup', 'DROP TABLE scheduled_jobs')")
    await asyncio.wait_for(rung.wait(), PATIENCE)

    stopping.set()
    await running


async def test_a_listener_that_was_cut_off_polls_comes_back_and_looks_at_once(
    dsn: str, pool: Pool, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    bell = Bell()
    rung = bell.subscribe()
    opened: list[asyncpg.Connection[asyncpg.Record]] = []
    may_connect = asyncio.Event()
    may_connect.set()

    async def connect() -> asyncpg.Connection[asyncpg.Record]:
        await may_connect.wait()
        opened.append(await connect_to(dsn, command_timeout=3))
        return opened[-1]

    wakeups = await choose_wakeups(
        connect, world.db, {JOBS_CHANNEL: bell}, place="here", poll_seconds=5, polling=PollingConfig(jitter=False)
    )
    stopping = asyncio.Event()
    running = asyncio.create_task(wakeups.run(stopping))
    await rung.wait()
    may_connect.clear()
    rung.clear()

    await pool.execute("SELECT pg_terminate_backend($1)", opened[0].get_server_pid())
    await until(lambda: wakeups.pause(None, 1) == 0.5)
    may_connect.set()

    await asyncio.wait_for(rung.wait(), PATIENCE)
    assert len(opened) == 2
    assert wakeups.pause(None, 1) == 5
    assert caplog.text.count("LISTEN connection was lost") == 1
    stopping.set()
    await running


async def test_where_notify_does_not_arrive_one_warning_says_so_and_polling_rules(
    new_database: Callable[..., str], world: World, caplog: pytest.LogCaptureFixture
) -> None:
    elsewhere = new_database()  # NOTIFY does not cross databases: as silent as a pooler
    with caplog.at_level(logging.WARNING):
        wakeups = await choose_wakeups(
            lambda: connect_to(elsewhere, command_timeout=3),
            world.db,
            {JOBS_CHANNEL: Bell()},
            place="here",
            poll_seconds=5,
            polling=PollingConfig(jitter=False),
        )
    assert isinstance(wakeups, Polling)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "direct_dsn" in caplog.text


async def test_a_flood_of_notifications_costs_few_claims(
    world: World, started: MakeScheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduler = await started(nothing)
    assert scheduler._worker.engine is not None
    looks: list[float] = []
    loop = asyncio.get_running_loop()
    real = type(world.jobs).look_ahead

    async def counted(*args: Any, **named: Any) -> Ahead:
        looks.append(loop.time())
        return await real(*args, **named)

    monkeypatch.setattr(type(world.jobs), "look_ahead", counted)
    begun_at = loop.time()
    sent = 0
    async with world.pool.acquire() as connection:
        while loop.time() < begun_at + 2:
            # Each in a transaction of its own, since equal ones of one transaction are sent once.
            await connection.execute(
                "DO $$ BEGIN FOR i IN 1..500 LOOP NOTIFY scheduler_wakeup; COMMIT; END LOOP; END $$"
            )
            sent += 500
    ended_at = loop.time()

    steady = [at for at in looks if begun_at + 0.1 < at < ended_at]
    assert sent / (ended_at - begun_at) > 1000
    assert steady
    assert len(steady) / (ended_at - begun_at) <= 20
    assert len(looks) < 25 + 20 * (ended_at - begun_at)


async def test_without_notify_workers_a_submission_sends_no_notification(dsn: str, pool: Pool) -> None:
    heard: list[object] = []
    listener = await asyncpg.connect(dsn)
    await listener.add_listener(JOBS_CHANNEL, lambda *args: heard.append(args[2]))
    await listener.add_listener("the_end", lambda *args: heard.append(args[2]))

    async def submit(scheduler: Scheduler) -> list[object]:
        heard.clear()
        await scheduler.schedule(nothing, execution_time=now())
        await scheduler.schedule_bulk([JobSpec(nothing, now()), JobSpec(nothing, now())])
        await pool.execute("NOTIFY the_end")
        await until(lambda: heard[-1:] == ["the_end"])
        return heard[:-1]

    assert await submit(Scheduler(pool, notify_workers=False)) == []
    assert await submit(Scheduler(pool)) == [JOBS_CHANNEL] * 2
    await listener.close()


async def test_32_writers_send_one_notification_a_transaction_at_most(dsn: str, pool: Pool) -> None:
    heard: list[object] = []
    listener = await asyncpg.connect(dsn)
    await listener.add_listener(JOBS_CHANNEL, lambda *args: heard.append(args[2]))
    await listener.add_listener("the_end", lambda *args: heard.append(args[2]))
    scheduler = Scheduler(pool)

    async def write() -> int:
        async with pool.acquire() as connection, connection.transaction():
            for _ in range(3):
                await scheduler.schedule(nothing, execution_time=now(), connection=connection)
        await scheduler.schedule_bulk([JobSpec(nothing, now()) for _ in range(4)], batch_size=2)
        for conflict in ConflictResolution:
            await scheduler.schedule_bulk([JobSpec(nothing, now()) for _ in range(40)], conflict_resolution=conflict)
        await scheduler.schedule(nothing, execution_time=now())
        return 1 + 2 + 3 + 1

    transactions = sum(await asyncio.gather(*(write() for _ in range(32))))
    await pool.execute("NOTIFY the_end")
    await until(lambda: heard[-1:] == ["the_end"])

    assert 32 <= len(heard) - 1 <= transactions
    await listener.close()


async def _notify_without_end(pool: Pool) -> None:
    while True:
        await pool.execute("SELECT pg_notify('x', repeat('x', 7000) || n) FROM generate_series(1, 60) n")


@pytest.mark.parametrize("conflict", list(ConflictResolution))
async def test_a_full_queue_of_notifications_fails_no_submission(tmp_path: Path, conflict: ConflictResolution) -> None:
    # Before PostgreSQL 17 the queue is always of 8 GB.
    with own_server(tmp_path / "data", release=NEWEST, max_notify_queue_pages="64") as server:
        async with asyncpg.create_pool(server.dsn, min_size=1) as pool:
            scheduler = Scheduler(pool)
            await scheduler.initialize_db()
            sleeper = await asyncpg.connect(server.dsn)
            for statement in ("LISTEN x", "BEGIN", "SELECT 1"):
                await sleeper.execute(statement)
            with pytest.raises(asyncpg.ProgramLimitExceededError):
                await _notify_without_end(pool)

            one = await scheduler.schedule(nothing, execution_time=now(), conflict_resolution=conflict)
            many = await scheduler.schedule_bulk(
                [JobSpec(nothing, now()) for _ in range(150)], conflict_resolution=conflict
            )
            few = await scheduler.schedule_bulk([JobSpec(nothing, now())], conflict_resolution=conflict)

            assert await pool.fetchval("SELECT count(*) FROM scheduled_jobs") == len({one, *many, *few}) == 152
            await sleeper.close()
