"""What each role of the database may do, and whose rows a tenant's login sees."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from pg_scheduler import ConflictResolution, JobSpec, Scheduler, Unique, VacuumConfig, VacuumPolicy
from pg_scheduler._store import migrator
from pg_scheduler._store.migration_files import Migration
from pg_scheduler._store.queries import QUERIES
from pg_scheduler.control import Control
from pg_scheduler.errors import JobFailed, MigrationNeeded
from support.databases import with_database
from support.own_server import own_server
from support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    As = Callable[[str], Awaitable[asyncpg.Pool[asyncpg.Record]]]

ROLE_OF = {
    "an_owner": "scheduler_owner",
    "the_operator": "scheduler_operator",
    "a_worker": "scheduler_worker",
    "a_submitter": "scheduler_enqueue",
    "a_reader": "scheduler_reader",
    "w_a": "scheduler_worker",
    "w_b": "scheduler_worker",
}
OF_THE_OPERATOR = {
    *("adopt_owned_job", "change_started_job", "orphan_owned_job", "take_over_jobs", "upsert_owned_job"),
    *("delete_pool", "drop_queue_settings", "keep_pool_record", "pool_records", "set_queue_settings", "upsert_pool"),
    *("claim_cluster", "confirm_sweeps", "held_sweeps", "hold_sweep", "other_clusters", "release_sweep"),
    "set_tenant_limits",
}
"""Statements that a worker is refused; all others it sends."""
OF_THE_OWNER = {"record_migration"}
SUBMITS = {
    *("hold_keys", "insert_job", "insert_jobs", "insert_unequal_job", "job_status", "replace_job", "replace_jobs"),
    *("set_limits", "taken_ids"),
}
"""Statements that need a right which the submitting role has."""
ANOTHER_TIME = (
    "CREATE OR REPLACE FUNCTION scheduler_now() RETURNS timestamptz LANGUAGE sql STABLE RETURN timestamptz 'epoch'"
)
LATER = datetime(2999, 1, 1, tzinfo=UTC)
RESERVED = ("sj-0", "key:w_a/x", "key:w_b/x")


@pytest.fixture
async def as_(dsn: str) -> AsyncIterator[As]:
    """``await as_("a_worker")``: a pool of that login, in a database that has the roles."""
    await renew(dsn)
    admin = await asyncpg.connect(dsn)
    pools: list[asyncpg.Pool[asyncpg.Record]] = []

    async def login(name: str) -> asyncpg.Pool[asyncpg.Record]:
        if not await admin.fetchval("SELECT count(*) FROM pg_roles WHERE rolname = $1", name):
            await admin.execute(f"CREATE ROLE {name} LOGIN IN ROLE {ROLE_OF[name]}")
        pools.append(await asyncpg.create_pool(dsn.replace("postgres@", f"{name}@", 1), min_size=0, max_size=10))
        return pools[-1]

    yield login
    for pool in pools:
        await pool.close()
    await admin.close()


async def renew(dsn: str, *, row_level_security: bool | None = None) -> None:
    async with Control(dsn) as control:
        await control.make_roles(row_level_security=row_level_security)


async def refused_of(pool: asyncpg.Pool[asyncpg.Record]) -> set[str]:
    """The names of our statements that the server refuses this user; rights are checked before a plan is run."""
    refused = set()
    for name, text in QUERIES.items():
        try:
            await pool.execute(f"EXPLAIN (GENERIC_PLAN) {text}")
        except asyncpg.InsufficientPrivilegeError:
            refused.add(name)
        except asyncpg.PostgresSyntaxError:
            assert "\nCREATE TABLE" in text  # of which there is no plan
    return refused


@pytest.mark.newest_postgres  # GENERIC_PLAN is of 16
async def test_each_role_is_let_in_by_its_own_statements(as_: As) -> None:
    assert await refused_of(await as_("the_operator")) == OF_THE_OWNER
    assert await refused_of(await as_("a_worker")) == OF_THE_OPERATOR | OF_THE_OWNER
    assert not await refused_of(await as_("a_submitter")) & SUBMITS


FORBIDDEN = {
    "a_worker": [
        "UPDATE scheduled_jobs SET task = 'other'",
        "UPDATE scheduled_jobs SET task_data = '{}'",
        "UPDATE scheduled_jobs SET tenant = 'other'",
        "UPDATE scheduled_jobs SET source_uid = NULL",
        "DELETE FROM scheduled_jobs",
        "TRUNCATE scheduled_jobs CASCADE",
        "ALTER TABLE scheduled_jobs DISABLE TRIGGER ALL",
        "DROP TABLE scheduler_results",
        "CREATE TABLE mine ()",
        "CREATE FUNCTION mine() RETURNS int LANGUAGE sql RETURN 1",
        ANOTHER_TIME,
        "CREATE TRIGGER mine AFTER INSERT ON scheduled_jobs EXECUTE FUNCTION scheduler_leave_slot()",
        "CREATE INDEX ON scheduled_jobs (task)",
        "UPDATE scheduler_tenant_limits SET max_pending = NULL",
        "DELETE FROM scheduler_tenant_submissions",
        "UPDATE scheduler_queue_settings SET concurrency = 1",
        "UPDATE scheduler_pool_settings SET allowed_tasks = NULL",
        "SELECT scheduler_set_maintenance(true, 'me')",
        "SELECT * FROM scheduler_clusters",
        "DELETE FROM scheduler_attempts",
        "INSERT INTO scheduler_tombstones DEFAULT VALUES",
        "INSERT INTO scheduler_migrations DEFAULT VALUES",
        "SELECT setval('scheduler_token', 1)",
        "ALTER TABLE scheduled_jobs OWNER TO a_worker",
        "CREATE ROLE mine",
        "SET ROLE scheduler_owner",
        "SET SESSION AUTHORIZATION postgres",
        "COPY scheduled_jobs TO PROGRAM 'true'",
    ],
    "a_submitter": [
        "SELECT task_data FROM scheduled_jobs",
        "SELECT * FROM scheduler_results",
        "UPDATE scheduled_jobs SET status = 'cancelled'",
        "DELETE FROM scheduled_jobs",
        "SELECT scheduler_delete_ended('{}')",
        "SELECT scheduler_take_back_ticks(1, '-infinity')",
        "INSERT INTO scheduler_workers DEFAULT VALUES",
        "CREATE TABLE mine ()",
    ],
    "a_reader": [
        "SELECT task_data FROM scheduled_jobs",
        "SELECT error_message FROM scheduled_jobs",
        "SELECT * FROM scheduler_results",
        "SELECT * FROM scheduler_attempts",
        "SELECT task_data FROM scheduler_schedules",
        "UPDATE scheduled_jobs SET status = 'cancelled'",
        "INSERT INTO scheduled_jobs DEFAULT VALUES",
        "SELECT scheduler_enqueue('t')",
    ],
    "the_operator": [
        "TRUNCATE scheduled_jobs CASCADE",
        "ALTER TABLE scheduled_jobs DISABLE TRIGGER ALL",
        "CREATE TABLE mine ()",
        "DELETE FROM scheduler_migrations",
        ANOTHER_TIME,
        "SET ROLE scheduler_owner",
    ],
}


@pytest.mark.parametrize("name", FORBIDDEN)
async def test_a_stolen_login_is_refused_each_forbidden_verb(as_: As, name: str) -> None:
    pool = await as_(name)
    for statement in FORBIDDEN[name]:
        assert await sqlstate_of(pool, statement) == "42501", statement


async def sqlstate_of(pool: asyncpg.Pool[asyncpg.Record], statement: str) -> str | None:
    try:
        await pool.execute(statement)
    except asyncpg.PostgresError as error:
        return error.sqlstate
    return None


async def test_rights_that_were_given_beside_are_taken_back(dsn: str, as_: As) -> None:
    pool = await as_("a_worker")
    admin = await asyncpg.connect(dsn)
    await admin.execute("GRANT UPDATE (task_data) ON scheduled_jobs TO scheduler_worker")
    await admin.execute("GRANT CREATE ON SCHEMA public TO PUBLIC")
    await admin.close()
    await pool.execute("UPDATE scheduled_jobs SET task_data = '{}'")

    await renew(dsn)

    for statement in ("UPDATE scheduled_jobs SET task_data = '{}'", "CREATE TABLE mine ()"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await pool.execute(statement)


async def add(one: int, other: int) -> int:
    return one + other


async def fail() -> None:
    raise ValueError("no")


async def work_through(pool: asyncpg.Pool[asyncpg.Record], tenant: str) -> None:
    """What a worker's process may ever do with its jobs, its schedules and its queues."""
    delete_all = VacuumConfig(completed=VacuumPolicy.immediate(), failed=VacuumPolicy.immediate())
    scheduler = Scheduler(pool, tenant=tenant, vacuum_config=delete_all)
    scheduler.register(add, fail)
    now = datetime.now(UTC)
    async with scheduler:
        keyed: dict[str, Any] = {"concurrency_key": "k", "concurrency_limit": 2, "keep_result": True}
        sums = [await scheduler.schedule(add, args=(i, 1), execution_time=now, **keyed) for i in range(4)]
        assert [await scheduler.result(job_id) for job_id in sums] == [1, 2, 3, 4]
        with pytest.raises(JobFailed):
            await scheduler.result(await scheduler.schedule(fail, execution_time=now))

        later = await scheduler.schedule(add, args=(0, 0), execution_time=LATER, unique=Unique(by=("task",)))
        assert later == await scheduler.schedule(add, args=(0, 1), execution_time=LATER, unique=Unique(by=("task",)))
        replacing: dict[str, Any] = {"conflict_resolution": ConflictResolution.REPLACE}
        await scheduler.schedule(add, args=(5, 5), execution_time=LATER, job_id=later, **replacing)
        many = [JobSpec(add, LATER, args=(i, 0), job_id=f"{tenant}-{i}") for i in range(300)]
        await scheduler.schedule_bulk(many, conflict_resolution=ConflictResolution.RAISE)
        await scheduler.schedule_bulk(many[:200], **replacing)
        await scheduler.reschedule(later, now)
        await until(lambda: is_gone_or_ended(scheduler, later))
        assert await scheduler.cancel_job(f"{tenant}-0")
        await scheduler.retry_job(f"{tenant}-0")

        await scheduler.upsert_schedule("often", add, every=timedelta(seconds=1), args=(1, 1))
        await until(lambda: has_run(scheduler, "often"))
        await scheduler.upsert_schedule("often", add, every=timedelta(hours=1), args=(1, 2))
        assert await scheduler.delete_schedule("often")
        await scheduler.pause_queue("mail", reason="why", by="me")
        assert await scheduler.resume_queue("mail")
        await scheduler.recover_orphaned_jobs()
        assert (await scheduler.run_vacuum())["completed"] > 0


async def is_gone_or_ended(scheduler: Scheduler, job_id: str) -> bool:
    job = await scheduler.job(job_id)
    return job is None or job.finished_at is not None


async def has_run(scheduler: Scheduler, name: str) -> bool:
    status = await scheduler.schedule_status(name)
    return status is not None and status["last_run_at"] is not None


async def test_roles_are_made_without_a_superuser(tmp_path: Path, pg: int) -> None:
    with own_server(tmp_path / "data", release=pg) as server:
        admin = await asyncpg.connect(server.dsn)
        await admin.execute("CREATE ROLE dba LOGIN CREATEROLE")
        await admin.execute("CREATE DATABASE jobs OWNER dba")
        await admin.close()
        dsn = with_database(server.dsn, "jobs").replace("postgres@", "dba@", 1)

        async with Control(dsn) as control:
            await control.migrate()
            for _ in range(2):
                await control.make_roles(row_level_security=True)

        dba = await asyncpg.connect(dsn)
        await dba.execute("CREATE ROLE w_a LOGIN IN ROLE scheduler_worker")
        await dba.close()
        async with asyncpg.create_pool(dsn.replace("dba@", "w_a@", 1), min_size=0) as pool:
            assert await Scheduler(pool, tenant="w_a").schedule(add, args=(1, 1), execution_time=LATER)


async def test_where_nothing_is_to_be_migrated_no_right_to_it_is_needed(dsn: str, as_: As) -> None:
    await as_("the_operator")

    async with Control(dsn.replace("postgres@", "the_operator@", 1)) as control:
        assert await control.migrate() == []


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE scheduled_jobs ADD COLUMN more text;",
        "-- transaction: none\nCREATE INDEX CONCURRENTLY IF NOT EXISTS more ON scheduled_jobs (job_name);",
    ],
    ids=["in_a_transaction", "outside_of_one"],
)
async def test_a_login_that_may_not_migrate_says_what_is_pending(
    as_: As, monkeypatch: pytest.MonkeyPatch, statement: str
) -> None:
    pool = await as_("a_worker")
    head = migrator.head_version()
    known = (*migrator.migrations(), Migration(version=9001, name="more", min_reader=1, text=statement))
    monkeypatch.setattr(migrator, "migrations", lambda: known)

    with pytest.raises(MigrationNeeded, match=f"schema {head} < 9001: 1 migrations are pending. this login may not"):
        await migrator.migrate_place_of(pool)


async def test_a_login_that_may_not_migrate_works_while_constraints_wait_for_their_owner(dsn: str, as_: As) -> None:
    pool = await as_("a_worker")
    admin = await asyncpg.connect(dsn)
    await admin.execute("ALTER TABLE scheduled_jobs ADD CONSTRAINT scheduled_jobs_late CHECK (true) NOT VALID")
    await admin.close()

    assert await migrator.migrate_place_of(pool) == []


async def test_an_owners_login_may_migrate_what_the_roles_have_taken_over(dsn: str, as_: As) -> None:
    await as_("an_owner")
    owners = dsn.replace("postgres@", "an_owner@", 1)
    admin = await asyncpg.connect(dsn)
    await admin.execute("DELETE FROM scheduler_migrations WHERE version = 38")
    await admin.execute("ALTER TABLE scheduled_jobs DROP CONSTRAINT scheduled_jobs_key_is_of_its_tenant")
    await admin.close()

    async with Control(owners) as control:
        assert await control.migrate() == ["ids_of_tenants"]


async def test_a_worker_needs_nothing_but_its_role(as_: As) -> None:
    await work_through(await as_("a_worker"), "")


async def test_a_tenants_worker_works_among_policies(dsn: str, as_: As) -> None:
    await renew(dsn, row_level_security=True)
    await work_through(await as_("w_a"), "w_a")


INSERT = (
    "INSERT INTO scheduled_jobs (job_id, tenant, task, job_name, task_data, execution_time)"
    " VALUES ($1, $2, 't', 't', '{}', now())"
)
TENANTS_TABLES = (
    *(
        "scheduled_jobs",
        "scheduler_attempts",
        "scheduler_concurrency_limits",
        "scheduler_keys",
        "scheduler_occurrences",
    ),
    *("scheduler_pool_settings", "scheduler_queue_settings", "scheduler_queue_starts", "scheduler_queues"),
    *("scheduler_results", "scheduler_schedules", "scheduler_slots", "scheduler_tenant_limits", "scheduler_tombstones"),
    *("scheduler_workers", "scheduler_jobs_overview", "scheduler_queue_depth", "scheduler_ledger"),
    *("scheduler_living_workers", "scheduler_schedule_runs"),
)
ROWS_OF_W_B = """
    INSERT INTO scheduled_jobs (job_id, tenant, task, job_name, task_data, execution_time, schedule_id, tick_at)
    VALUES ('b', 'w_b', 't', 't', '{}', now(), 1, now() + interval '1 hour');
    INSERT INTO scheduled_jobs (job_id, tenant, task, job_name, task_data, execution_time, status, finished_at)
    VALUES ('b-ended', 'w_b', 't', 't', '{}', now(), 'completed', now());
    INSERT INTO scheduler_attempts (job_id, token, attempt, worker_id, error_type, message, traceback)
    VALUES ('b', 1, 1, 'w', 'E', 'm', '');
    INSERT INTO scheduler_results (job_id, token) VALUES ('b', 1);
    INSERT INTO scheduler_concurrency_limits VALUES ('w_b', 'k', 2);
    INSERT INTO scheduler_keys (tenant, key, job_id) VALUES ('w_b', 'k', 'b');
    INSERT INTO scheduler_slots VALUES ('w_b', 'k', 1, 'b');
    INSERT INTO scheduler_queues (tenant, queue) VALUES ('w_b', 'default');
    INSERT INTO scheduler_queue_starts VALUES ('w_b', 'default', now(), 1);
    INSERT INTO scheduler_pool_settings (tenant, name, source_cluster, source_uid, source_generation, made_at)
    VALUES ('w_b', 'p', 'c', 'u', 1, now());
    INSERT INTO scheduler_queue_settings (tenant, queue, pool, weight, paused) VALUES ('w_b', 'default', 'p', 1, false);
    INSERT INTO scheduler_tenant_limits (tenant, source_cluster, min_interval_seconds) VALUES ('w_b', 'c', 60);
    INSERT INTO scheduler_tombstones (job_id, tenant, queue, task, status, execution_time, attempt, finished_at)
    VALUES ('key:w_b/old', 'w_b', 'default', 't', 'completed', now(), 1, now());
    INSERT INTO scheduler_workers (id, tenant, queues, tasks, schedules, slots, lease_until, version)
    VALUES ('w', 'w_b', '{default}', '{t}', '{}', 1, now() + interval '1 day', '0')"""


async def test_a_tenants_login_sees_and_changes_no_row_of_another(dsn: str, as_: As) -> None:
    operator, w_a, w_b = await as_("the_operator"), await as_("w_a"), await as_("w_b")
    await renew(dsn, row_level_security=True)
    await Scheduler(w_b, tenant="w_b").upsert_schedule("hourly", "t", every=timedelta(hours=1))
    await operator.execute(
        "INSERT INTO scheduler_occurrences (schedule_id, outcome, first_tick_at, last_tick_at, ticks)"
        " SELECT id, 'missed', now(), now(), 1 FROM scheduler_schedules"
    )
    await operator.execute(ROWS_OF_W_B)

    async def seen(table: str) -> list[int]:
        count = f"SELECT count(*) FROM {table}"  # noqa: S608  a constant of this file
        return [await pool.fetchval(count) for pool in (operator, w_b, w_a)]

    counts = {table: await seen(table) for table in TENANTS_TABLES}
    assert {table: rows for table, rows in counts.items() if not rows[0] == rows[1] > rows[2] == 0} == {}
    before = await operator.fetch("SELECT j::text FROM scheduled_jobs j ORDER BY j.id")

    place = await operator.fetchval("SELECT ctid FROM scheduled_jobs WHERE job_id = 'b-ended'")
    changes = (
        "UPDATE scheduled_jobs SET status = 'pending', execution_time = now() RETURNING 1",
        "UPDATE scheduler_workers SET state = 'dead' RETURNING 1",
        "DELETE FROM scheduler_slots RETURNING 1",
        "DELETE FROM scheduler_schedules RETURNING 1",
        f"SELECT scheduler_delete_ended(ARRAY['({place[0]},{place[1]})']::tid[])",
        "SELECT scheduler_take_back_ticks(1, '-infinity')",
    )
    for statement in changes:
        assert await w_a.fetch(statement) == [], statement
    intrusions = (
        INSERT.replace("$1, $2", "'x', 'w_b'"),
        "SELECT scheduler_enqueue('t', tenant => 'w_b')",
        "SELECT scheduler_enqueue('t', tenant => 'w_a', job_id => 'b', on_conflict => 'replace')",
        "SELECT scheduler_hold_key('w_b', 'k', 'x', '1 hour')",
        "SELECT scheduler_set_limits('{w_b}', '{k}', '{9}')",
        "INSERT INTO scheduler_results (job_id, token) VALUES ('b', 2) ON CONFLICT (job_id) DO UPDATE SET token = 2",
    )
    for statement in intrusions:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await w_a.execute(statement)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await w_a.execute("SET SESSION AUTHORIZATION w_b")
    assert await operator.fetch("SELECT j::text FROM scheduled_jobs j ORDER BY j.id") == before


async def test_ids_of_custom_resources_are_not_a_tenants_to_take(dsn: str, as_: As) -> None:
    await renew(dsn, row_level_security=True)
    w_a, operator = await as_("w_a"), await as_("the_operator")
    for job_id in RESERVED:
        with pytest.raises((asyncpg.InsufficientPrivilegeError, asyncpg.CheckViolationError)):
            await w_a.execute(INSERT, job_id, "w_a")
    with pytest.raises(asyncpg.CheckViolationError):
        await operator.execute(INSERT, "key:w_b/x", "w_a")
    await operator.execute(INSERT, "key:w_a/x", "w_a")


async def test_a_claim_among_policies_goes_by_the_same_index(dsn: str, as_: As) -> None:
    await renew(dsn, row_level_security=True)
    operator, w_a = await as_("the_operator"), await as_("w_a")
    await operator.execute(
        "INSERT INTO scheduled_jobs (job_id, tenant, task, job_name, task_data, execution_time)"
        " SELECT 'j' || n, 'w_' || chr(97 + n % 2), 't', 't', '{}', now() - make_interval(secs => n)"
        " FROM generate_series(1, 4000) n"
    )
    admin = await asyncpg.connect(dsn)
    await admin.execute("VACUUM ANALYZE scheduled_jobs")
    await admin.close()
    values: list[object] = ["w", "w_a", ["default"], ["t"], [10], 10, 0.15, LATER - timedelta(days=400_000)]

    for mode in ("force_custom_plan", "force_generic_plan"):
        async with w_a.acquire() as connection:
            await connection.execute(f"SET plan_cache_mode = {mode}")
            statement = await connection.prepare(f"EXPLAIN {QUERIES['claim_jobs']}")
            plan = "\n".join(row[0] for row in await statement.fetch(*values))
        assert "Index Scan using scheduled_jobs_due on scheduled_jobs" in plan, plan
        assert "Seq Scan on scheduled_jobs" not in plan, plan


async def test_policies_go_when_they_are_no_longer_wanted(dsn: str, as_: As) -> None:
    w_a, operator = await as_("w_a"), await as_("the_operator")
    await operator.execute("INSERT INTO scheduler_queues (tenant, queue) VALUES ('w_b', 'default')")

    seen = []
    for wanted in (True, None, False):
        await renew(dsn, row_level_security=wanted)
        seen.append(await w_a.fetchval("SELECT count(*) FROM scheduler_queues"))

    assert seen == [0, 0, 1]


HOSTILE = """
    CREATE FUNCTION public.now() RETURNS timestamptz LANGUAGE sql RETURN timestamptz '1999-01-01';
    CREATE FUNCTION public.nextval(regclass) RETURNS bigint LANGUAGE sql RETURN -1::bigint;
    CREATE FUNCTION public.pg_notify(text, text) RETURNS void LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION $$mine$$; END';
    CREATE FUNCTION public.greatest(timestamptz, timestamptz) RETURNS timestamptz LANGUAGE sql RETURN now()"""


async def test_functions_that_are_called_as_the_servers_change_nothing(dsn: str, as_: As) -> None:
    admin = await asyncpg.connect(dsn)
    await admin.execute(HOSTILE)
    await admin.close()

    await work_through(await as_("a_worker"), "")


async def test_a_temporary_table_deceives_no_function_of_the_owner(as_: As) -> None:
    pool = await as_("a_submitter")
    async with pool.acquire() as connection:
        await connection.execute("CREATE TEMP TABLE scheduled_jobs (job_id text, status text)")
        await connection.execute("CREATE TEMP TABLE scheduler_keys AS SELECT 'w_a' AS tenant")
        job_id = await connection.fetchval("SELECT scheduler_enqueue('t', unique_key => 'k')")

    assert await pool.fetchval("SELECT count(*) FROM public.scheduled_jobs WHERE job_id = $1", job_id) == 1
    assert await (await as_("a_reader")).fetchval("SELECT count(*) FROM scheduler_jobs_overview") == 1
