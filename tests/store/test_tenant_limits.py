"""What a tenant may ask for, held against every way in."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from pg_scheduler import ConflictResolution, JobSpec, Scheduler
from pg_scheduler._domain.rules import Cron, Interval
from pg_scheduler._domain.schedules import ScheduleDefinition, ScheduleKey, Template
from pg_scheduler._engine.periodic_jobs import PeriodicJobs
from pg_scheduler.control import Control, DesiredJob, JobTemplate, Source
from pg_scheduler.errors import DatabaseBusy, TenantLimitExceeded
from pg_scheduler.periodic import PeriodicJobConfig
from pg_scheduler.pool_settings import RateLimit
from pg_scheduler.tenant_limits import TenantLimits
from support.world import World, new_job

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
LATER = datetime(2040, 1, 1, tzinfo=UTC)
TWO_PENDING = TenantLimits(max_pending=2)
TWO_A_MINUTE = TenantLimits(max_rate=RateLimit(limit=2, seconds=60))
TWO_IN_ALL = TenantLimits(max_pending=2, max_rate=RateLimit(limit=2, seconds=60))
SCHEDULE = ScheduleDefinition(
    key=ScheduleKey(tenant="billing", kind="PeriodicJob", cluster="c", uid="u"),
    name="nightly",
    generation=1,
    rule=Interval(60),
    template=Template(
        task="t", job_name="t", payload='{"args":[],"kwargs":{}}', queue="default", priority=5, max_retries=0
    ),
)
MEMBER = "limits_member"
LIMIT_BY_HAND = "INSERT INTO scheduler_tenant_limits (tenant, source_cluster, max_pending) VALUES ('billing', 'c', 1)"
READ = "SELECT seq_scan, idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relname = 'scheduled_jobs'"
TRIGGERS = "SELECT count(*) FROM pg_trigger WHERE tgname = 'scheduler_submissions_keep_limits'"


async def t(number: int = 0) -> None:
    """A task."""


async def limit(dsn: str, limits: Mapping[str, TenantLimits], *, cluster: str = "c") -> list[str]:
    async with Control(dsn) as control:
        return list(await control.set_tenant_limits(cluster, limits))


async def submit(world: World, tenant: str = "billing", **changes: Any) -> None:
    changes.setdefault("execution_time", LATER)
    assert await world.jobs.insert(new_job(tenant=tenant, **changes))


async def stored(world: World, tenant: str = "billing") -> int:
    return int(await world.pool.fetchval("SELECT count(*) FROM scheduled_jobs WHERE tenant = $1", tenant))


def in_code(world: World, every: timedelta) -> PeriodicJobs:
    config = PeriodicJobConfig(t, interval=every)
    return PeriodicJobs(world.schedules, lambda: {"k": config}, tenant="billing", on_triggered=lambda: None)


async def by_library(_: str, pool: asyncpg.Pool[asyncpg.Record], number: int) -> None:
    await Scheduler(pool, tenant="billing").schedule(t, execution_time=LATER, args=(number,))


async def by_bulk(_: str, pool: asyncpg.Pool[asyncpg.Record], number: int) -> None:
    await Scheduler(pool, tenant="billing").schedule_bulk([JobSpec(t, LATER, args=(number,))])


async def by_sql(_: str, pool: asyncpg.Pool[asyncpg.Record], number: int) -> None:
    call = "SELECT scheduler_enqueue('t', json_build_array($1::int), tenant => 'billing', run_at => $2)"
    await pool.execute(call, number, LATER)


async def by_resource(dsn: str, _: asyncpg.Pool[asyncpg.Record], number: int) -> None:
    source = Source(cluster="c", kind="ScheduledJob", tenant="billing", name="n", uid=f"u{number}", generation=1)
    async with Control(dsn) as control:
        await control.upsert_job(
            DesiredJob(source=source, job_id=f"sj-{number}", template=JobTemplate(task="t"), run_at=LATER)
        )


@pytest.mark.parametrize("limits", [TWO_PENDING, TWO_A_MINUTE], ids=["pending", "rate"])
@pytest.mark.parametrize("way", [by_library, by_bulk, by_sql, by_resource])
async def test_every_writer_meets_the_limits(
    way: Callable[..., Awaitable[None]], limits: TenantLimits, dsn: str, world: World
) -> None:
    await limit(dsn, {"billing": limits})
    for number in range(2):
        await way(dsn, world.pool, number)

    with pytest.raises((TenantLimitExceeded, asyncpg.ConfigurationLimitExceededError)):
        await way(dsn, world.pool, 2)

    assert await stored(world) == 2


async def test_the_error_names_limit_value_and_fix(dsn: str, world: World) -> None:
    await limit(dsn, {"billing": TWO_PENDING})
    await submit(world, job_id="a")
    await submit(world, job_id="b")

    with pytest.raises(
        TenantLimitExceeded, match=r"maxPending.*at most 2 jobs may wait to run.*raise maxPending"
    ) as raised:
        await submit(world, job_id="c")

    assert (raised.value.limit, raised.value.code) == ("maxPending", "PGS-017")


async def test_sql_is_told_the_limit_and_what_to_do(dsn: str, world: World) -> None:
    await limit(dsn, {"billing": TWO_A_MINUTE})

    with pytest.raises(asyncpg.ConfigurationLimitExceededError, match="maxRate") as raised:
        await world.pool.execute(
            "SELECT scheduler_enqueue('t', tenant => 'billing') FROM generate_series(1, 2);"
            "SELECT scheduler_enqueue('t', tenant => 'billing')"
        )

    error = raised.value
    assert error.constraint_name == "maxRate"
    assert error.detail == "at most 2 jobs in 60 s may be submitted: 2 were, 1 more are given"
    assert re.match(r"submit again in \d+ s, or have whoever runs the operator raise maxRate", error.hint or "")


async def test_a_bulk_beyond_the_limit_writes_nothing(dsn: str, world: World) -> None:
    await limit(dsn, {"billing": TenantLimits(max_rate=RateLimit(limit=149, seconds=60))})
    scheduler = Scheduler(world.pool, tenant="billing")
    many = [JobSpec(t, LATER, args=(n,)) for n in range(150)]  # so many that they are copied

    with pytest.raises(TenantLimitExceeded, match="give at most 149 at a time"):
        await scheduler.schedule_bulk(many, conflict_resolution=ConflictResolution.RAISE)
    assert await stored(world) == 0

    await scheduler.schedule_bulk(many[1:])
    assert await stored(world) == 149


async def test_other_tenants_are_not_limited_and_the_star_is_for_those_without_an_entry(dsn: str, world: World) -> None:
    await limit(dsn, {"billing": TenantLimits(max_pending=1), "free": TenantLimits(), "*": TWO_PENDING})
    for tenant, most in {"billing": 1, "other": 2, "": 2}.items():
        for number in range(most):
            await submit(world, tenant, job_id=f"{tenant}{number}")
        with pytest.raises(TenantLimitExceeded):
            await submit(world, tenant, job_id="one more")
    for number in range(4):
        await submit(world, "free", job_id=f"free{number}")


async def test_what_is_overwritten_left_alone_or_held_does_not_count(dsn: str, world: World) -> None:
    await limit(dsn, {"billing": TWO_IN_ALL})
    await submit(world, job_id="a")
    await submit(world, job_id="b")

    assert await world.jobs.replace(new_job(job_id="a", tenant="billing", execution_time=LATER))
    assert await world.jobs.insert(new_job(job_id="b", tenant="billing")) is None
    await world.pool.execute(
        "SELECT scheduler_enqueue('t', tenant => 'billing', job_id => 'a', on_conflict => w, run_at => $1)"
        " FROM unnest(ARRAY['ignore', 'replace']) w",
        LATER,
    )


async def test_ticks_are_never_refused_and_fill_the_backlog(dsn: str, world: World) -> None:
    await limit(dsn, {"": TenantLimits(max_pending=1, max_rate=RateLimit(limit=1, seconds=60))})
    await world.schedules.upsert(replace(SCHEDULE, key=replace(SCHEDULE.key, tenant="")))
    for _ in range(3):
        await world.advance(timedelta(minutes=10))
        await world.tick(horizon_seconds=120)
    assert await stored(world, "") >= 2

    with pytest.raises(TenantLimitExceeded, match="maxPending"):
        await submit(world, "")


async def test_a_run_by_hand_is_a_submission(dsn: str, world: World) -> None:
    await world.schedules.upsert(SCHEDULE)
    await limit(dsn, {"billing": TenantLimits(max_rate=RateLimit(limit=1, seconds=60))})

    assert await world.schedules.run_extra(SCHEDULE.key, "one")
    with pytest.raises(TenantLimitExceeded):
        await world.schedules.run_extra(SCHEDULE.key, "two")


async def test_retries_go_on_at_the_limit(dsn: str, world: World) -> None:
    worker = await world.worker()
    running = await world.running(worker)
    await limit(dsn, {"": TenantLimits(max_pending=1, max_rate=RateLimit(limit=1, seconds=60))})
    await submit(world, "", job_id="other")

    await world.jobs.release([running], worker)

    assert await world.statuses(running.job_id) == ["pending"]


async def test_running_and_suspended_jobs_are_not_pending_and_waiting_ones_are(dsn: str, world: World) -> None:
    worker = await world.worker()
    await world.running(worker)
    await world.pending(suspended=True)
    await world.pending(concurrency_key="k", execution_time=LATER)
    waiting = await world.pending(concurrency_key="l", execution_time=LATER)
    await world.pool.execute("UPDATE scheduled_jobs SET status = 'waiting' WHERE job_id = $1", waiting)
    await limit(dsn, {"": TenantLimits(max_pending=3)})
    for status in ("pending", "waiting"):
        await submit(world, "other", job_id=status, concurrency_key="k")
        await world.pool.execute("UPDATE scheduled_jobs SET status = $1 WHERE job_id = $1", status)
    await submit(world, "other", job_id="without a key")

    await submit(world, "", job_id="third")

    with pytest.raises(TenantLimitExceeded):
        await submit(world, "", job_id="fourth")


async def test_the_window_slides(dsn: str, world: World) -> None:
    await world.stand_at(NOON)
    await limit(dsn, {"billing": TWO_A_MINUTE})
    await submit(world, job_id="a")
    await world.stand_at(NOON + timedelta(seconds=30))
    await submit(world, job_id="b")

    for second in (31, 59, 60):
        await world.stand_at(NOON + timedelta(seconds=second))
        with pytest.raises(TenantLimitExceeded, match=r"submit again in \d+ s"):
            await submit(world, job_id="c")

    await world.stand_at(NOON + timedelta(seconds=61))
    await submit(world, job_id="c")
    with pytest.raises(TenantLimitExceeded):
        await submit(world, job_id="d")
    assert await world.pool.fetchval("SELECT count(*) FROM scheduler_tenant_submissions") == 2  # old cells are gone


@pytest.mark.parametrize("limits", [TWO_PENDING, TWO_A_MINUTE], ids=["pending", "rate"])
async def test_two_at_once_pass_the_limit_by_what_is_in_flight_and_wait_for_nobody(
    limits: TenantLimits, dsn: str, world: World
) -> None:
    await limit(dsn, {"billing": limits})
    enqueue = "SELECT scheduler_enqueue('t', tenant => 'billing', run_at => $1)"
    async with world.pool.acquire() as one, world.pool.acquire() as other:
        await other.execute("SET lock_timeout = '1ms'")
        open_ = one.transaction()
        await open_.start()
        for _ in range(2):
            await one.execute(enqueue, LATER)
        for _ in range(2):
            await other.execute(enqueue, LATER)  # one's are not to be seen yet
        with pytest.raises(asyncpg.ConfigurationLimitExceededError):
            await other.execute(enqueue, LATER)
        await open_.commit()
        for connection in (one, other):
            with pytest.raises(asyncpg.ConfigurationLimitExceededError):
                await connection.execute(enqueue, LATER)
    assert await stored(world) == 4


async def test_whoever_forgets_old_cells_makes_nobody_wait(dsn: str, world: World) -> None:
    await world.stand_at(NOON)
    await limit(dsn, {"billing": TWO_A_MINUTE})
    await submit(world)
    await world.stand_at(NOON + timedelta(minutes=2))
    enqueue = "SELECT scheduler_enqueue('t', tenant => 'billing', run_at => $1)"
    async with world.pool.acquire() as one, world.pool.acquire() as other, one.transaction():
        await one.execute(enqueue, LATER)
        await other.execute("SET lock_timeout = '1ms'")

        await other.execute(enqueue, LATER)


async def test_what_is_rolled_back_was_not_submitted(dsn: str, world: World) -> None:
    await limit(dsn, {"billing": TWO_IN_ALL})
    async with world.pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute("SELECT scheduler_enqueue('t', tenant => 'billing') FROM generate_series(1, 2)")
        await transaction.rollback()

    await submit(world, job_id="a")
    await submit(world, job_id="b")


async def test_submissions_are_watched_only_while_there_is_a_limit_of_them(dsn: str, world: World) -> None:
    async def watched() -> int:
        return int(await world.pool.fetchval(TRIGGERS))

    assert await watched() == 0
    await limit(dsn, {"billing": TenantLimits(min_interval_seconds=60)})
    assert await watched() == 0
    await limit(dsn, {"billing": TWO_A_MINUTE})
    assert await watched() == 1
    await submit(world)
    await limit(dsn, {})
    assert await watched() == 0
    assert await world.pool.fetchval("SELECT count(*) FROM scheduler_tenant_submissions") == 0


async def test_the_same_limits_write_nothing(dsn: str, world: World) -> None:
    limits = {"billing": TWO_IN_ALL, "*": TenantLimits(min_interval_seconds=5)}
    await limit(dsn, limits)
    before = await world.pool.fetch("SELECT xmin, * FROM scheduler_tenant_limits ORDER BY tenant")

    await limit(dsn, limits)

    assert await world.pool.fetch("SELECT xmin, * FROM scheduler_tenant_limits ORDER BY tenant") == before


async def test_limits_of_another_cluster_stand(dsn: str, world: World) -> None:
    await limit(dsn, {"billing": TWO_PENDING}, cluster="first")

    assert await limit(dsn, {"billing": TenantLimits(), "*": TWO_PENDING}, cluster="second") == ["billing"]
    assert await limit(dsn, {}, cluster="second") == []

    rows = await world.pool.fetch("SELECT tenant, source_cluster, max_pending FROM scheduler_tenant_limits")
    assert [tuple(row) for row in rows] == [("billing", "first", 2)]


async def test_limits_are_not_set_against_a_writer_that_does_not_end(dsn: str, world: World) -> None:
    """Who else writes jobs waits behind us: for two seconds, not for that writer."""
    settings = await world.pool.fetchval(
        "SELECT proconfig FROM pg_proc WHERE proname = 'scheduler_apply_tenant_limits'"
    )
    assert "lock_timeout=2s" in settings
    await world.pool.execute("ALTER FUNCTION scheduler_apply_tenant_limits SET lock_timeout = '1ms'")
    async with world.pool.acquire() as writer, writer.transaction():
        await writer.execute("SELECT scheduler_enqueue('t')")
        with pytest.raises(DatabaseBusy):
            await limit(dsn, {"billing": TWO_PENDING})
    assert await world.pool.fetchval("SELECT count(*) FROM scheduler_tenant_limits") == 0


async def test_whoever_may_write_limits_need_not_own_the_tables(world: World) -> None:
    async with world.pool.acquire() as connection:
        await connection.execute(
            f"CREATE ROLE {MEMBER}; GRANT INSERT, DELETE, UPDATE ON scheduler_tenant_limits TO {MEMBER}"
        )
        try:
            await connection.execute(f"SET ROLE {MEMBER}")
            await connection.execute(LIMIT_BY_HAND)
            await connection.execute("RESET ROLE")
            assert await connection.fetchval(TRIGGERS) == 1
        finally:
            await connection.execute(f"RESET ROLE; DROP OWNED BY {MEMBER}; DROP ROLE {MEMBER}")


async def test_the_owners_rights_are_not_lent_to_other_tables(world: World) -> None:
    async with world.pool.acquire() as connection:
        await connection.execute(f"CREATE ROLE {MEMBER}; GRANT CREATE ON SCHEMA public TO {MEMBER}")
        try:
            await connection.execute(f"SET ROLE {MEMBER}")
            await connection.execute(
                "CREATE TABLE trap (max_pending int, rate_limit int);"
                "CREATE TRIGGER t AFTER INSERT ON trap"
                " FOR EACH STATEMENT EXECUTE FUNCTION scheduler_apply_tenant_limits()"
            )
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match="the owner of"):
                await connection.execute("INSERT INTO trap VALUES (1)")
        finally:
            await connection.execute(f"RESET ROLE; DROP OWNED BY {MEMBER}; DROP ROLE {MEMBER}")


async def test_a_schedule_that_ticks_too_often_is_refused_and_the_last_good_one_stays(dsn: str, world: World) -> None:
    await limit(dsn, {"billing": TenantLimits(min_interval_seconds=60)})
    await world.schedules.upsert(SCHEDULE)
    dense = replace(SCHEDULE, generation=2, rule=Cron(("* * * * *",), seconds="0,30"))

    for write in (world.schedules.upsert(dense), world.schedules.upsert_all([dense])):
        with pytest.raises(TenantLimitExceeded, match="30 s after a tick, and 60 s is the least") as raised:
            await write
        assert raised.value.limit == "minIntervalSeconds"

    row = await world.pool.fetchrow("SELECT interval_seconds, source_generation FROM scheduler_schedules")
    assert row is not None
    assert tuple(row) == (60, 1)


async def test_new_schedules_that_tick_too_often_are_refused_together(dsn: str, world: World) -> None:
    await limit(dsn, {"*": TenantLimits(min_interval_seconds=61)})
    other = replace(SCHEDULE, key=replace(SCHEDULE.key, uid="v"), rule=Interval(3600))

    for write in (world.schedules.upsert(SCHEDULE), world.schedules.upsert_all([other, SCHEDULE])):
        with pytest.raises(TenantLimitExceeded):
            await write

    assert await world.pool.fetchval("SELECT count(*) FROM scheduler_schedules") == 0


async def test_a_schedule_older_than_its_limit_may_be_suspended_and_given_another_job(dsn: str, world: World) -> None:
    await world.schedules.upsert(SCHEDULE)
    await limit(dsn, {"billing": TenantLimits(min_interval_seconds=61)})

    other = replace(SCHEDULE, generation=2, suspended=True, template=replace(SCHEDULE.template, task="u"))
    assert await world.schedules.upsert(other)


async def test_code_that_ticks_too_often_is_refused_at_the_start(dsn: str, world: World) -> None:
    await limit(dsn, {"billing": TenantLimits(min_interval_seconds=60)})

    with pytest.raises(TenantLimitExceeded, match="minIntervalSeconds"):
        await in_code(world, timedelta(seconds=5)).declare(world.schedules)


async def test_code_that_is_older_than_its_limit_starts_and_is_not_declared_again(dsn: str, world: World) -> None:
    declared = in_code(world, timedelta(seconds=5))
    await declared.declare(world.schedules)
    await limit(dsn, {"billing": TenantLimits(min_interval_seconds=60)})
    await declared.declare(world.schedules)

    await world.pool.execute("DELETE FROM scheduler_schedules")
    async with world.pool.acquire() as connection:
        await declared.look(connection, world.schedules)
    await declared.revive(world.schedules)

    assert not declared.has_declared
    assert await world.pool.fetchval("SELECT count(*) FROM scheduler_schedules") == 0


async def test_a_schedule_made_while_the_program_runs_meets_the_limit(dsn: str, world: World) -> None:
    await limit(dsn, {"billing": TenantLimits(min_interval_seconds=60)})
    scheduler = Scheduler(world.pool, tenant="billing")

    with pytest.raises(TenantLimitExceeded, match="minIntervalSeconds"):
        await scheduler.upsert_schedule("s", t, cron="*/5 * * * *", seconds="0,5")


async def test_a_count_of_pending_jobs_ends_at_the_limit_and_goes_by_the_indexes(dsn: str, world: World) -> None:
    await world.pool.execute(
        "INSERT INTO scheduled_jobs (job_id, tenant, task, job_name, task_data, execution_time, concurrency_key)"
        " SELECT 'b' || n, CASE WHEN n % 2 = 0 THEN 'billing' ELSE 'o' END, 't', 't', '{}', $1,"
        " CASE WHEN n % 4 = 0 THEN 'k' END FROM generate_series(1, 4000) n",
        LATER,
    )
    await limit(dsn, {"billing": TenantLimits(max_pending=100)})
    async with world.pool.acquire() as connection, connection.transaction():
        await connection.execute("ANALYZE scheduled_jobs")
        await connection.execute("SAVEPOINT before")
        with pytest.raises(asyncpg.ConfigurationLimitExceededError):
            await connection.execute("SELECT scheduler_enqueue('t', tenant => 'billing')")
        await connection.execute("ROLLBACK TO before")
        row = await connection.fetchrow(READ)
    assert row is not None
    assert row["seq_scan"] == 0
    assert 100 < row["idx_tup_fetch"] < 110
