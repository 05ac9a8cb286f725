"""Who has no connection any more, and what that costs them: time, never a job."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import asyncpg

from pg_scheduler._store.queries import QUERIES
from pg_scheduler._store.workers import LeaseStore, Suspect, WorkerCard
from support.waiting import PATIENCE, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import pytest

    from support.world import World

GRACE = 8.0
LEASE = 60.0


@asynccontextmanager
async def connected(dsn: str) -> AsyncIterator[LeaseStore]:
    """A heartbeat's connection, closed as by a death at the end of the block."""
    connection = await asyncpg.connect(dsn)
    try:
        yield LeaseStore(connection, place="")
    finally:
        pid = connection.get_server_pid()
        await connection.close()
        await _is_gone(dsn, pid)


async def _is_gone(dsn: str, pid: int) -> None:
    looker = await asyncpg.connect(dsn)

    async def gone() -> bool:
        return not await looker.fetchval("SELECT count(*) FROM pg_stat_get_activity($1)", pid)

    await until(gone)
    await looker.close()


async def register(store: LeaseStore, worker_id: str = "victim", *, pod_uid: str | None = None) -> None:
    card = WorkerCard(
        worker_id=worker_id,
        tenant="",
        queues=["default"],
        schedules=[],
        slots=1,
        version="0",
        pod=None,
        pod_uid=pod_uid,
    )
    await store.register(card, ["t"], LEASE)


async def server_started_at(world: World) -> datetime:
    started: datetime = await world.pool.fetchval("SELECT pg_postmaster_start_time()")
    return started


async def suspects(world: World, *, looker: str = "looker") -> list[Suspect]:
    return await world.workers.suspect(looker, GRACE, await server_started_at(world))


async def seconds_left(world: World, worker_id: str = "victim") -> float:
    left: float = await world.pool.fetchval(
        "SELECT extract(epoch FROM lease_until - scheduler_now())::float8 FROM scheduler_workers WHERE id = $1",
        worker_id,
    )
    return left


async def test_a_worker_without_a_backend_has_eight_seconds_left(world: World, dsn: str) -> None:
    async with connected(dsn) as store:
        await register(store)

    (first,), (second,) = await suspects(world), await suspects(world)

    assert (first.worker_id, first.is_new, second.is_new) == ("victim", True, False)
    assert 7 < second.seconds_left <= first.seconds_left <= GRACE
    assert 7 < await seconds_left(world) <= GRACE


async def test_a_shorter_lease_is_not_made_longer(world: World, dsn: str) -> None:
    async with connected(dsn) as store:
        await register(store)
    await world.advance(timedelta(seconds=LEASE - 3))

    (suspect,) = await suspects(world)

    assert not suspect.is_new
    assert suspect.seconds_left <= 3
    assert await seconds_left(world) <= 3


async def test_who_is_connected_or_looks_is_not_suspected(world: World, dsn: str) -> None:
    async with connected(dsn) as store:
        await register(store)
        assert await suspects(world) == []

    assert await suspects(world, looker="victim") == []


async def test_a_beat_that_comes_late_over_a_connection_given_up_names_the_newer_one(world: World, dsn: str) -> None:
    async with AsyncExitStack() as old:
        given_up = await old.enter_async_context(connected(dsn))
        await register(given_up)
        async with connected(dsn) as store:
            assert await store.beat("victim", LEASE, ["t"]) is not None
            assert await given_up.beat("victim", LEASE, ["t"]) is not None
            await old.aclose()

            assert await suspects(world) == []


async def test_the_pid_in_the_hands_of_a_later_backend_is_no_life(world: World, dsn: str) -> None:
    async with connected(dsn) as store:
        await register(store)
        await world.pool.execute("UPDATE scheduler_workers SET backend_started_at = backend_started_at - interval '1s'")

        assert [suspect.worker_id for suspect in await suspects(world)] == ["victim"]


async def test_a_backend_of_another_role_counts_as_alive(world: World, dsn: str) -> None:
    await world.pool.execute("CREATE ROLE looks_only; GRANT ALL ON ALL TABLES IN SCHEMA public TO looks_only")
    try:
        async with connected(dsn) as store:
            await register(store)
            async with world.pool.acquire() as connection, connection.transaction():
                await connection.execute("SET LOCAL ROLE looks_only")
                start = await connection.fetchval(
                    "SELECT backend_start FROM pg_stat_get_activity($1)", await _pid(world)
                )
                rows = await connection.fetch(
                    QUERIES["suspect_workers"], "looker", GRACE, await server_started_at(world)
                )
        assert (start, rows) == (None, [])
    finally:
        await world.pool.execute("DROP OWNED BY looks_only; DROP ROLE looks_only")


async def _pid(world: World) -> int:
    pid: int = await world.pool.fetchval("SELECT backend_pid FROM scheduler_workers")
    return pid


async def test_behind_a_pooler_nobody_is_suspected(world: World, dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pooler gives its clients numbers of its own for the backend."""
    monkeypatch.setattr(asyncpg.Connection, "get_server_pid", lambda _: 1)
    async with connected(dsn) as store:
        await register(store)
        await store.beat("victim", LEASE, ["t"])
    monkeypatch.undo()

    assert await suspects(world) == []


async def test_a_worker_of_the_previous_release_is_not_suspected(world: World, dsn: str) -> None:
    """It writes its backend once and not again when it has connected anew."""
    async with connected(dsn) as store:
        await register(store)
        await world.pool.execute("UPDATE scheduler_workers SET backend_watched = DEFAULT")

    assert await suspects(world) == []


async def test_nobody_is_suspected_after_a_restart_of_the_server(world: World, dsn: str) -> None:
    async with connected(dsn) as store:
        await register(store)

    assert await world.workers.suspect("looker", GRACE, datetime.fromisoformat("2020-01-01T00:00:00Z")) == []
    assert await seconds_left(world) > GRACE


async def test_a_beat_over_a_new_connection_ends_the_suspicion(world: World, dsn: str) -> None:
    async with connected(dsn) as store:
        await register(store)
    assert await suspects(world)

    async with connected(dsn) as store:
        assert await store.beat("victim", LEASE, ["t"]) == set()

        assert await suspects(world) == []
        assert await seconds_left(world) > GRACE


async def test_a_beat_that_comes_between_the_look_and_the_cut_wins(world: World, dsn: str) -> None:
    """The looker sees the old backend missing and waits at the row's lock, held by the beat over the new connection.

    The beat is committed; the lock is the looker's. SKIP LOCKED is taken out so that it waits there, and the recheck
    after the lock is what is tested: it sees the new row, but the backends as they were before.
    """
    async with connected(dsn) as store:
        await register(store)
    waiting_look = QUERIES["suspect_workers"].replace("SKIP LOCKED", "")

    new = await asyncpg.connect(dsn)
    async with world.pool.acquire() as looker:
        transaction = new.transaction()
        await transaction.start()
        await LeaseStore(new, place="").beat("victim", LEASE, ["t"])
        look = asyncio.create_task(looker.fetch(waiting_look, "looker", GRACE, await server_started_at(world)))
        await until(lambda: _waits_for_a_lock(world), what="the looker waits at the gate")
        await transaction.commit()
        await look
    await new.close()

    assert await seconds_left(world) > GRACE


async def test_a_worker_frozen_in_a_transaction_stops_no_look(world: World, dsn: str) -> None:
    async with connected(dsn) as store:
        await register(store, "frozen")
        await register(store, "gone")

    async with world.pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT 1 FROM scheduler_workers WHERE id = 'frozen' FOR UPDATE")
        found = await asyncio.wait_for(suspects(world), PATIENCE)

    assert {suspect.worker_id: suspect.is_new for suspect in found} == {"frozen": False, "gone": True}


async def test_a_look_at_healthy_workers_writes_nothing(world: World, dsn: str) -> None:
    async with connected(dsn) as store:
        await register(store)
        async with world.pool.acquire() as connection, connection.transaction():
            await connection.fetch(QUERIES["suspect_workers"], "looker", GRACE, await server_started_at(world))

            assert await connection.fetchval("SELECT pg_current_xact_id_if_assigned()") is None


async def test_earlier_processes_of_this_pod_are_buried_and_no_others(world: World, dsn: str) -> None:
    async with connected(dsn) as store:
        await register(store, "earlier", pod_uid="p")
        await register(store, "of another pod", pod_uid="q")
        await register(store, "of none")
    async with connected(dsn) as store:
        await register(store, "beside", pod_uid="p")

        assert await world.workers.bury_predecessors("p", "another tenant") == []
        assert await world.workers.bury_predecessors("p", "") == ["earlier"]


async def _waits_for_a_lock(world: World) -> bool:
    return bool(
        await world.pool.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
    )
