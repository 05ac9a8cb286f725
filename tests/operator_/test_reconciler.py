from __future__ import annotations

import asyncio
import logging
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from pg_scheduler.control import Control
from pg_scheduler.errors import DatabaseUnreachable, PgSchedulerError, SchemaMismatch
from pg_scheduler.tenant_limits import TenantLimits
from pg_scheduler_operator.errors import KubernetesError, KubernetesUnreachable, ObjectChanged, ObjectGone
from pg_scheduler_operator.gateway.scheduler import Changed, Rows
from pg_scheduler_operator.metrics import LATE_SECONDS, UNROUTABLE_JOBS, Metrics
from pg_scheduler_operator.pacing import Pacer
from pg_scheduler_operator.reconcile.scale_in import VICTIM_COST
from pg_scheduler_operator.reconciler import KeyQueue, Reconciler, Sweeper
from pg_scheduler_operator.resources import FINALIZER, RESUME_REQUESTED_AT, Key, Kind, Pod, TargetScale, stamp
from support.operator_world import CLUSTER, FakeCluster, periodic_job, scheduled_job, worker_pool
from support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import asyncpg

FUTURE = "2030-01-01T00:00:00Z"


class FaultyRows(Rows):
    """Rows of a database that may be away."""

    away = False
    error: PgSchedulerError = DatabaseUnreachable("nobody answers")

    def __getattribute__(self, name: str) -> Any:
        if not name.startswith("_") and name not in {"cluster", "away", "error"} and self.away:
            raise self.error
        return super().__getattribute__(name)


class World:
    """The reconciler between a real database and the objects of a fake API server."""

    def __init__(self, control: Control, pool: asyncpg.Pool[asyncpg.Record]) -> None:
        self.cluster = FakeCluster()
        self.control = control
        self.now = 0.0
        self.rows = FaultyRows(control, cluster=CLUSTER, clock=lambda: self.now)
        self.pool = pool
        self.queue = KeyQueue()
        self.metrics = Metrics()
        self.pacer: Pacer[Key] = Pacer(lambda: self.now, metrics=self.metrics, per_second=1e6, burst=1e6)
        self.sweeper = Sweeper(self.cluster, self.rows, self.metrics)
        self.reconciler = Reconciler(
            queue=self.queue,
            resources=self.cluster,
            targets=self.cluster,
            rows=self.rows,
            pacer=self.pacer,
            sweeper=self.sweeper,
            metrics=self.metrics,
        )

    async def settle(self, key: Key) -> None:
        """Turns for one object until one of them succeeds, as the queue does it without its pauses."""
        for _ in range(200):
            self.now += 61
            try:
                await self.reconciler.reconcile(key)
            except (KubernetesError, DatabaseUnreachable):
                continue
            return
        pytest.fail(f"{key} does not settle")

    async def changed(self) -> set[Key]:
        """The keys that one look at the rows puts into the queue."""
        await self.reconciler.enqueue_changed()
        keys = set()
        while self.queue._waiting:
            key = await self.queue.get()
            self.queue.done(key)
            keys.add(key)
        return keys

    async def jobs(self) -> list[tuple[Any, ...]]:
        rows = await self.pool.fetch(
            "SELECT source_name, task, status, suspended, source_generation FROM scheduled_jobs ORDER BY id"
        )
        return [tuple(row) for row in rows]

    async def limit(self, limits: TenantLimits) -> None:
        """What the operator's setting says of every namespace."""
        await self.control.set_tenant_limits(CLUSTER, {"*": limits})

    async def run(self, key: Key, status: str) -> None:
        """What workers do to the row of an object."""
        uid = self.cluster.objects[key]["metadata"]["uid"]
        await self.pool.execute(
            "UPDATE scheduled_jobs SET status = $2, attempt = 1, worker_id = 'w', started_at = now(),"
            " finished_at = CASE WHEN $2 <> 'running' THEN now() END WHERE job_id = $1",
            f"sj-{uid}",
            status,
        )


@pytest.fixture
async def world(dsn: str, pool: asyncpg.Pool[asyncpg.Record]) -> AsyncIterator[World]:
    async with Control(dsn) as control:
        world = World(control, pool)
        yield world
        world.queue.close()


async def test_new_job_becomes_a_row_and_is_held_and_ready(world: World) -> None:
    key = world.cluster.apply(Kind.SCHEDULED_JOB, "a", scheduled_job(runAt=FUTURE))

    await world.settle(key)

    assert await world.jobs() == [("a", "t", "pending", False, 1)]
    assert world.cluster.objects[key]["metadata"]["finalizers"] == [FINALIZER]
    assert world.cluster.condition(key, "Ready") == ("True", "Accepted")


async def test_second_turn_writes_nothing(world: World) -> None:
    key = world.cluster.apply(Kind.SCHEDULED_JOB, "a", scheduled_job(runAt=FUTURE))
    await world.settle(key)
    before = list(world.cluster.writes)

    await world.settle(key)

    assert world.cluster.writes == before


async def test_job_beyond_its_tenants_limit_waits_until_there_is_room(world: World) -> None:
    await world.limit(TenantLimits(max_pending=1))
    first, second = (world.cluster.apply(Kind.SCHEDULED_JOB, name, scheduled_job(runAt=FUTURE)) for name in "ab")
    await world.settle(first)

    await world.settle(second)
    assert world.cluster.condition(second, "Ready") == ("False", "TenantLimit")
    assert world.cluster.condition(second, "Stalled")[0] == "False"
    assert len(await world.jobs()) == 1
    before = list(world.cluster.writes)
    await world.settle(second)
    assert world.cluster.writes == before

    await world.run(first, "completed")
    await world.settle(second)
    assert world.cluster.condition(second, "Ready") == ("True", "Accepted")


async def test_schedule_that_ticks_more_often_than_its_tenant_may_leaves_the_last_good_one(world: World) -> None:
    await world.limit(TenantLimits(min_interval_seconds=60))
    key = world.cluster.apply(Kind.PERIODIC_JOB, "p", periodic_job(schedule={"intervalSeconds": 60}))
    await world.settle(key)

    world.cluster.apply(Kind.PERIODIC_JOB, "p", periodic_job(schedule={"intervalSeconds": 59}))
    await world.settle(key)

    assert world.cluster.condition(key, "Ready") == ("False", "TenantLimit")
    assert world.cluster.condition(key, "Stalled") == ("True", "TenantLimit")
    assert await world.pool.fetchval("SELECT interval_seconds FROM scheduler_schedules WHERE enabled") == 60


async def test_edit_of_a_pending_job_changes_its_row(world: World) -> None:
    key = world.cluster.apply(Kind.SCHEDULED_JOB, "a", scheduled_job(runAt=FUTURE))
    await world.settle(key)
    world.cluster.apply(
        Kind.SCHEDULED_JOB, "a", scheduled_job(runAt=FUTURE, suspend=True, template={"spec": {"task": "u"}})
    )

    await world.settle(key)

    assert await world.jobs() == [("a", "u", "pending", True, 2)]
    assert world.cluster.condition(key, "Suspended") == ("True", "Spec")


async def test_row_of_an_older_release_takes_the_defaults_of_this_one_once(world: World) -> None:
    key = world.cluster.apply(Kind.PERIODIC_JOB, "p", periodic_job())
    await world.settle(key)
    await world.pool.execute("UPDATE scheduler_schedules SET overlap = 'allow'")

    await world.settle(key)

    row = "SELECT overlap, source_generation, xmin FROM scheduler_schedules"
    written = await world.pool.fetchrow(row)
    assert written is not None
    assert (written["overlap"], written["source_generation"]) == ("skip", 1)
    await world.settle(key)
    assert await world.pool.fetchrow(row) == written


async def test_schedule_that_was_suspended_after_failures_is_told_and_resumed_by_an_edit(world: World) -> None:
    key = world.cluster.apply(Kind.PERIODIC_JOB, "p", periodic_job(suspendAfterFailures=1))
    await world.settle(key)
    await world.changed()
    await world.pool.execute(
        "UPDATE scheduler_schedules SET halted_at = now(), halted_reason = 'its last run failed', next_tick_at = NULL"
    )

    assert await world.changed() == {key}
    await world.settle(key)
    assert world.cluster.condition(key, "Suspended") == ("True", "SuspendedAfterFailures")
    assert world.cluster.reasons == ["SuspendedAfterFailures"]

    world.cluster.apply(Kind.PERIODIC_JOB, "p", periodic_job(suspendAfterFailures=2))
    await world.settle(key)
    assert world.cluster.condition(key, "Suspended") == ("False", "Spec")
    assert world.cluster.objects[key]["status"]["nextScheduleTimes"]


async def test_schedule_that_was_suspended_after_failures_is_resumed_by_its_annotation(world: World) -> None:
    key = world.cluster.apply(Kind.PERIODIC_JOB, "p", periodic_job())
    await world.settle(key)
    await world.pool.execute(
        "UPDATE scheduler_schedules SET halted_at = now(), halted_reason = 'its last run failed', next_tick_at = NULL"
    )
    await world.settle(key)
    later = datetime.now(UTC) + timedelta(seconds=5)
    world.cluster.objects[key]["metadata"]["annotations"] = {RESUME_REQUESTED_AT: stamp(later)}

    await world.settle(key)

    assert world.cluster.condition(key, "Suspended") == ("False", "Spec")
    assert await world.pool.fetchval("SELECT next_tick_at IS NOT NULL AND halted_at IS NULL FROM scheduler_schedules")


async def test_edit_that_meets_a_claim_is_stalled(world: World) -> None:
    key = world.cluster.apply(Kind.SCHEDULED_JOB, "a", scheduled_job())
    await world.settle(key)
    await world.run(key, "running")
    world.cluster.apply(Kind.SCHEDULED_JOB, "a", scheduled_job(template={"spec": {"task": "u"}}))

    await world.settle(key)

    assert await world.jobs() == [("a", "t", "running", False, 1)]
    assert world.cluster.condition(key, "Stalled") == ("True", "AlreadyStarted")


async def test_job_made_with_cancel_set_ends_cancelled_in_one_turn(world: World) -> None:
    key = world.cluster.apply(Kind.SCHEDULED_JOB, "a", scheduled_job(cancel=True))

    await world.settle(key)

    assert world.cluster.condition(key, "Finished") == ("True", "Cancelled")


async def test_deleted_job_takes_its_pending_row_along(world: World) -> None:
    key = world.cluster.apply(Kind.SCHEDULED_JOB, "a", scheduled_job(runAt=FUTURE))
    await world.settle(key)
    world.cluster.delete(key)

    await world.settle(key)

    assert key not in world.cluster.objects
    assert await world.jobs() == [("a", "t", "cancelled", False, 1)]


async def test_deleted_job_that_runs_finishes(world: World) -> None:
    key = world.cluster.apply(Kind.SCHEDULED_JOB, "a", scheduled_job())
    await world.settle(key)
    await world.run(key, "running")
    world.cluster.delete(key)

    await world.settle(key)

    assert key not in world.cluster.objects
    (row,) = await world.pool.fetch("SELECT status, stopping_worker FROM scheduled_jobs")
    assert tuple(row) == ("running", None)


async def test_job_made_anew_under_the_same_name_is_another_row(world: World) -> None:
    key = world.cluster.apply(Kind.SCHEDULED_JOB, "a", scheduled_job())
    await world.settle(key)
    await world.run(key, "completed")
    world.cluster.delete(key)
    await world.settle(key)
    world.cluster.apply(Kind.SCHEDULED_JOB, "a", scheduled_job())

    await world.settle(key)

    assert [row[2] for row in await world.jobs()] == ["completed", "pending"]


async def test_finished_job_whose_row_is_gone_does_not_run_again(world: World) -> None:
    key = world.cluster.apply(Kind.SCHEDULED_JOB, "a", scheduled_job())
    await world.settle(key)
    await world.run(key, "completed")
    await world.settle(key)
    await world.pool.execute("DELETE FROM scheduled_jobs")

    await world.settle(key)

    assert await world.jobs() == []


async def test_arguments_that_cannot_be_kept_are_refused_without_being_told(world: World) -> None:
    spec = {"template": {"spec": {"task": "t", "kwargs": {"c4n4ry": "c4n4ry\x00"}}}}
    key = world.cluster.apply(Kind.SCHEDULED_JOB, "a", spec)

    await world.settle(key)

    assert world.cluster.condition(key, "Stalled") == ("True", "InvalidSpec")
    assert "c4n4ry" not in str(world.cluster.objects[key]["status"])
    assert await world.jobs() == []


async def test_schedule_is_made_changed_and_forgotten(world: World) -> None:
    key = world.cluster.apply(Kind.PERIODIC_JOB, "p", periodic_job())
    await world.settle(key)
    world.cluster.apply(Kind.PERIODIC_JOB, "p", periodic_job(schedule={"cron": ["0 2 * * *"]}))
    await world.settle(key)

    assert world.cluster.objects[key]["status"]["schedule"] == "0 2 * * *"
    assert await world.pool.fetchval("SELECT source_generation FROM scheduler_schedules") == 2
    world.cluster.delete(key)
    await world.settle(key)
    assert key not in world.cluster.objects
    assert await world.pool.fetchval("SELECT count(*) FROM scheduler_schedules") == 0


async def test_unknown_task_is_told_while_a_worker_lives(world: World) -> None:
    await world.pool.execute(
        "INSERT INTO scheduler_workers (id, tenant, queues, tasks, slots, lease_until, version)"
        " VALUES ('w', 'billing', '{default}', '{other}', 1, now() + interval '1 hour', '0')"
    )
    key = world.cluster.apply(Kind.SCHEDULED_JOB, "a", scheduled_job())

    await world.settle(key)
    await world.settle(key)

    assert world.cluster.reasons == ["UnknownTask"]


async def test_rows_that_change_bring_their_objects_into_the_queue(world: World) -> None:
    keys = [world.cluster.apply(Kind.SCHEDULED_JOB, name, scheduled_job()) for name in "abc"]
    for key in keys:
        await world.settle(key)
    await world.changed()

    await world.run(keys[0], "running")
    await world.run(keys[1], "completed")

    assert await world.changed() == set(keys[:2])
    assert await world.changed() == set()
    await world.run(keys[0], "completed")
    assert await world.changed() == {keys[0]}


async def test_job_that_is_handed_back_brings_its_object_into_the_queue(world: World) -> None:
    key = world.cluster.apply(Kind.SCHEDULED_JOB, "a", scheduled_job())
    await world.settle(key)
    await world.run(key, "running")
    await world.changed()

    await world.pool.execute("UPDATE scheduled_jobs SET status = 'pending'")

    assert await world.changed() == {key}


async def test_sweep_withdraws_rows_of_objects_that_are_gone(world: World) -> None:
    kinds = {Kind.SCHEDULED_JOB: scheduled_job(runAt=FUTURE), Kind.PERIODIC_JOB: periodic_job()}
    keys = [world.cluster.apply(kind, name, spec) for kind, spec in kinds.items() for name in ("gone", "here")]
    for key in keys:
        await world.settle(key)
    for key in keys:
        if key.name == "gone":
            del world.cluster.objects[key]

    assert await world.sweeper.run_once() == 2

    assert {(row[0], row[2]) for row in await world.jobs() if row[0] in {"gone", "here"} and row[2] == "cancelled"} == {
        ("gone", "cancelled")
    }
    assert await world.pool.fetchval("SELECT array_agg(source_name) FROM scheduler_schedules") == ["here"]
    assert await world.sweeper.run_once() == 0


async def test_sweep_lets_running_jobs_finish(world: World) -> None:
    key = world.cluster.apply(Kind.SCHEDULED_JOB, "a", scheduled_job())
    await world.settle(key)
    await world.run(key, "running")
    del world.cluster.objects[key]

    await world.sweeper.run_once()

    assert [row[2] for row in await world.jobs()] == ["running"]


async def test_sweep_touches_only_namespaces_that_are_served_here(world: World) -> None:
    key = world.cluster.apply(Kind.SCHEDULED_JOB, "a", scheduled_job(runAt=FUTURE), namespace="elsewhere")
    await world.settle(key)
    del world.cluster.objects[key]

    assert await world.sweeper.run_once() == 0


async def test_sweep_does_nothing_when_the_objects_cannot_be_listed(world: World) -> None:
    key = world.cluster.apply(Kind.SCHEDULED_JOB, "a", scheduled_job(runAt=FUTURE))
    await world.settle(key)

    def fail(call: str) -> None:
        if call == "uids":
            raise ObjectChanged("the list expired", status=410)

    world.cluster.fault = fail

    with pytest.raises(ObjectChanged):
        await world.sweeper.run_once()
    assert [row[2] for row in await world.jobs()] == ["pending"]


async def test_pool_is_scaled_and_asked_for_again(world: World) -> None:
    world.cluster.deployments["billing/workers"] = TargetScale(wanted=0, existing=0)
    job = world.cluster.apply(Kind.SCHEDULED_JOB, "a", scheduled_job())
    await world.settle(job)
    key = world.cluster.apply(Kind.WORKER_POOL, "w", worker_pool())

    assert await world.reconciler.reconcile(key) == 2.0

    assert world.cluster.deployments["billing/workers"].wanted == 1
    assert world.cluster.condition(key, "ScalingActive") == ("True", "Scaling")
    assert world.cluster.reasons == ["ScaledUp"]


async def worker_in(world: World, *pods: str) -> None:
    """A living worker of the pool's namespace in each of these pods, which stand."""
    await world.pool.executemany(
        "INSERT INTO scheduler_workers (id, tenant, queues, tasks, slots, lease_until, version, pod_uid, started_at)"
        " VALUES ($1, 'billing', '{default}', '{t}', 10, 'infinity', '0', $1, now() - interval '40 minutes')",
        [(pod,) for pod in pods],
    )
    made_at = datetime.now(UTC) - timedelta(hours=1)
    world.cluster.target_pods += [Pod(name=pod, uid=pod, created_at=made_at) for pod in pods]


async def held_by(world: World, pod: str) -> None:
    await world.pool.execute(
        "INSERT INTO scheduled_jobs (job_id, tenant, task, job_name, task_data, execution_time, status, worker_id)"
        " VALUES ('held', 'billing', 't', 't', '{}', now(), 'running', $1)",
        pod,
    )


async def marked(world: World) -> list[str]:
    rows = await world.pool.fetch("SELECT pod_uid FROM scheduler_workers WHERE drain_until > now() ORDER BY 1")
    return [row[0] for row in rows]


def shrunk(**changes: Any) -> dict[str, Any]:
    """A pool that somebody else wants at one replica."""
    return {**worker_pool(mode="External"), "replicas": 1, **changes}


async def test_replicas_are_taken_away_in_three_turns_and_a_busy_pod_is_spared(world: World) -> None:
    world.cluster.deployments["billing/workers"] = TargetScale(wanted=2, existing=2)
    await worker_in(world, "a", "b")
    await held_by(world, "b")
    key = world.cluster.apply(Kind.WORKER_POOL, "w", shrunk())

    assert await world.reconciler.reconcile(key) == 0.5
    assert await marked(world) == ["a"]
    assert await world.reconciler.reconcile(key) == 0.5
    assert {pod.name: pod.deletion_cost for pod in world.cluster.target_pods} == {"a": VICTIM_COST, "b": None}
    assert world.cluster.deployments["billing/workers"].wanted == 2
    await world.reconciler.reconcile(key)

    assert world.cluster.deployments["billing/workers"].wanted == 1
    assert world.cluster.condition(key, "ScalingActive") == ("True", "Scaling")


async def test_what_stands_of_a_dead_operator_is_gone_on_with(world: World) -> None:
    world.cluster.deployments["billing/workers"] = TargetScale(wanted=2, existing=2)
    await worker_in(world, "a", "b")
    key = world.cluster.apply(Kind.WORKER_POOL, "w", shrunk())
    for _ in range(3):
        successor = Reconciler(
            queue=world.queue,
            resources=world.cluster,
            targets=world.cluster,
            rows=world.rows,
            pacer=world.pacer,
            sweeper=world.sweeper,
            metrics=world.metrics,
        )
        await successor.reconcile(key)

    assert world.cluster.deployments["billing/workers"].wanted == 1


@pytest.mark.parametrize("status", [403, 409, 422])
async def test_target_that_is_not_lowered_leaves_no_mark_and_no_cost(world: World, status: int) -> None:
    world.cluster.deployments["billing/workers"] = TargetScale(wanted=2, existing=2)
    await worker_in(world, "a", "b")
    key = world.cluster.apply(Kind.WORKER_POOL, "w", shrunk())
    await world.reconciler.reconcile(key)
    await world.reconciler.reconcile(key)

    def fail(call: str) -> None:
        if call == "scale":
            raise KubernetesError("refused", status=status)

    world.cluster.fault = fail
    with pytest.raises(KubernetesError):
        await world.reconciler.reconcile(key)

    assert await marked(world) == []
    assert {pod.deletion_cost for pod in world.cluster.target_pods} == {None}
    assert world.cluster.deployments["billing/workers"].wanted == 2


async def test_pool_keeps_what_its_workers_have_registered_and_writes_it_once(world: World) -> None:
    world.cluster.deployments["billing/workers"] = TargetScale(wanted=1, existing=1)
    await worker_in(world, "a")
    key = world.cluster.apply(Kind.WORKER_POOL, "w", worker_pool())
    await world.settle(key)
    row = "SELECT tasks, starts::text, xmin FROM scheduler_pools WHERE tenant = 'billing' AND name = 'w'"
    kept = await world.pool.fetchrow(row)

    await world.settle(key)

    assert kept is not None
    assert (kept["tasks"], kept["starts"]) == (["t"], "{}")  # twenty minutes after its pod: no start
    assert await world.pool.fetchrow(row) == kept


async def test_younger_of_two_pools_leaves_the_target_alone(world: World) -> None:
    world.cluster.deployments["billing/workers"] = TargetScale(wanted=3, existing=3)
    older = world.cluster.apply(Kind.WORKER_POOL, "older", worker_pool(minReplicas=5))
    younger = world.cluster.apply(Kind.WORKER_POOL, "younger", worker_pool(minReplicas=7))

    await world.settle(younger)
    assert world.cluster.condition(younger, "ScalingActive") == ("False", "TargetInUse")
    assert world.cluster.deployments["billing/workers"].wanted == 3
    await world.settle(older)
    assert world.cluster.deployments["billing/workers"].wanted == 5


async def test_pool_tells_of_late_and_unroutable_jobs_while_the_database_answers(world: World) -> None:
    world.cluster.deployments["billing/workers"] = TargetScale(wanted=0, existing=0)
    key = world.cluster.apply(Kind.WORKER_POOL, "w", worker_pool())
    await world.settle(world.cluster.apply(Kind.SCHEDULED_JOB, "a", scheduled_job()))
    await world.pool.execute("UPDATE scheduled_jobs SET execution_time = now() - interval '1 hour'")
    labels = ("billing", "w")

    await world.settle(key)
    late, unroutable = (world.metrics.values(metric)[labels] for metric in (LATE_SECONDS, UNROUTABLE_JOBS))
    world.rows.away = True
    await world.settle(key)

    assert (late >= 3600, unroutable) == (True, 1)
    assert not {*world.metrics.values(LATE_SECONDS), *world.metrics.values(UNROUTABLE_JOBS)}


async def test_pool_is_held_while_the_database_is_away(world: World) -> None:
    world.cluster.deployments["billing/workers"] = TargetScale(wanted=7, existing=7)
    key = world.cluster.apply(Kind.WORKER_POOL, "w", worker_pool())
    world.rows.away = True

    await world.settle(key)

    assert world.cluster.deployments["billing/workers"].wanted == 7
    assert world.cluster.condition(key, "DatabaseReachable") == ("False", "DatabaseUnreachable")


@pytest.mark.parametrize("error", [DatabaseUnreachable("nobody answers"), SchemaMismatch("a table is missing")])
async def test_deleted_object_does_not_wait_for_ever_for_the_database(world: World, error: PgSchedulerError) -> None:
    key = world.cluster.apply(Kind.SCHEDULED_JOB, "a", scheduled_job(runAt=FUTURE))
    await world.settle(key)
    world.rows.away, world.rows.error = True, error
    world.cluster.delete(key, at=datetime.now(UTC))

    with pytest.raises(type(error)):
        await world.reconciler.reconcile(key)
    world.cluster.delete(key, at=datetime.now(UTC) - timedelta(seconds=21))
    await world.settle(key)

    assert key not in world.cluster.objects
    assert world.cluster.reasons == ["RowCleanupDeferred"]
    world.rows.away = False
    assert await world.sweeper.run_once() == 1
    assert [row[2] for row in await world.jobs()] == ["cancelled"]


async def test_finalizer_goes_even_when_the_event_cannot_be_told(world: World) -> None:
    key = world.cluster.apply(Kind.SCHEDULED_JOB, "a", scheduled_job(runAt=FUTURE))
    await world.settle(key)
    world.rows.away = True
    world.cluster.delete(key, at=datetime.now(UTC) - timedelta(seconds=21))

    def fail(call: str) -> None:
        if call == "tell":
            raise KubernetesError("the namespace is being terminated", status=403)

    world.cluster.fault = fail
    await world.settle(key)

    assert key not in world.cluster.objects


async def test_flapping_object_is_written_at_most_once_a_second(world: World) -> None:
    key = world.cluster.apply(Kind.SCHEDULED_JOB, "a", scheduled_job(runAt=FUTURE))
    world.now = 1000
    for turn in range(100):
        world.now += 0.01
        world.cluster.apply(Kind.SCHEDULED_JOB, "a", scheduled_job(runAt=FUTURE, suspend=turn % 2 == 0))
        await world.reconciler.reconcile(key)

    assert world.cluster.count("status", key) <= 5
    assert await world.reconciler.reconcile(key) is not None
    world.now += 2
    assert await world.reconciler.reconcile(key) is None
    assert world.cluster.objects[key]["status"]["observedGeneration"] == 101


@pytest.mark.parametrize("seed", range(10))
async def test_faults_on_every_call_lose_no_wish_and_write_each_change_once(world: World, seed: int) -> None:
    rng = random.Random(seed)  # noqa: S311

    def fail(call: str) -> None:
        if rng.random() < 0.3:
            faults = [ObjectChanged(call, status=409), KubernetesUnreachable(call), KubernetesError(call, status=429)]
            raise rng.choice(faults)

    world.cluster.fault = fail
    keys = [world.cluster.apply(Kind.SCHEDULED_JOB, name, scheduled_job(runAt=FUTURE)) for name in "ab"]
    for generation in range(2, 6):
        for key in keys:
            await world.settle(key)
            world.rows.away = rng.random() < 0.2
            task = f"t{generation}"
            world.cluster.apply(
                Kind.SCHEDULED_JOB, key.name, scheduled_job(runAt=FUTURE, template={"spec": {"task": task}})
            )
            if world.rows.away:
                with pytest.raises((KubernetesError, DatabaseUnreachable)):
                    await world.reconciler.reconcile(key)
            world.rows.away = False
    for key in keys:
        await world.settle(key)

    assert sorted(await world.jobs()) == [(name, "t5", "pending", False, 5) for name in "ab"]
    for key in keys:
        assert world.cluster.objects[key]["status"]["observedGeneration"] == 5
        assert world.cluster.count("status", key) <= 5
        assert world.cluster.count("finalizers", key) == 1


async def test_loop_works_through_the_queue_and_survives_any_error(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    failed: list[str] = []
    canary = "n4ry".rjust(6, "c")  # the place of an error is told with its line of code

    def fail(call: str) -> None:
        if call == "get" and not failed:
            failed.append(call)
            raise RuntimeError(canary)

    world.cluster.fault = fail
    key = world.cluster.apply(Kind.SCHEDULED_JOB, "a", scheduled_job(runAt=FUTURE))
    caplog.set_level(logging.INFO)
    work = asyncio.create_task(world.reconciler.run())
    world.queue.put(key)

    await until(lambda: world.cluster.condition(key, "Ready") == ("True", "Accepted"))
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work

    assert "RuntimeError" in caplog.text
    assert canary not in caplog.text


async def test_pool_whose_target_goes_away_in_the_middle_is_looked_at_again(world: World) -> None:
    world.cluster.deployments["billing/workers"] = TargetScale(wanted=0, existing=0)
    key = world.cluster.apply(Kind.WORKER_POOL, "w", worker_pool(minReplicas=1))

    def fail(call: str) -> None:
        if call == "scale":
            world.cluster.deployments.clear()
            raise ObjectGone("no such deployment", status=404)

    world.cluster.fault = fail
    work = asyncio.create_task(world.reconciler.run())
    world.queue.put(key)

    await until(lambda: world.cluster.condition(key, "Ready") == ("False", "TargetNotFound"))
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work


async def test_end_of_a_job_is_seen_beside_its_namesake_that_still_runs(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An object made anew has the key of the one before, whichever of the two rows a look comes upon last."""
    key = world.cluster.apply(Kind.SCHEDULED_JOB, "a", scheduled_job())
    await world.settle(key)
    await world.run(key, "running")
    first = f"sj-{world.cluster.objects[key]['metadata']['uid']}"
    world.cluster.delete(key)
    await world.settle(key)
    world.cluster.apply(Kind.SCHEDULED_JOB, "a", scheduled_job())
    await world.settle(key)
    await world.run(key, "running")
    look = world.rows.changed

    async def look_with_first_last() -> Changed:
        changed = await look()
        return replace(changed, jobs=sorted(changed.jobs, key=lambda job: job.job_id == first))

    monkeypatch.setattr(world.rows, "changed", look_with_first_last)
    await world.changed()

    await world.run(key, "completed")

    assert key in await world.changed()


async def test_what_failed_for_the_database_is_done_when_it_answers_again(world: World) -> None:
    key = world.cluster.apply(Kind.SCHEDULED_JOB, "a", scheduled_job(runAt=FUTURE))
    world.rows.away = True
    with pytest.raises(DatabaseUnreachable):
        await world.reconciler.enqueue_changed()
    world.queue.put(key)
    await world.queue.get()
    world.queue.failed(key, at_least_seconds=3600)
    world.rows.away = False

    assert key in await world.changed()


async def test_demand_is_that_of_the_pools_namespace(world: World) -> None:
    await world.settle(world.cluster.apply(Kind.SCHEDULED_JOB, "a", scheduled_job(), namespace="other"))

    assert (await world.rows.demand("billing", ahead_seconds=60)).waiting == []


def pool_of(*queues: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {**worker_pool(), "queues": list(queues), **spec}


async def test_what_a_pool_says_of_queues_and_tasks_is_stored_once_and_goes_with_it(world: World) -> None:
    mail = {"name": "mail", "weight": 3, "concurrency": 40, "rateLimit": {"limit": 100, "perSeconds": 60}}
    key = world.cluster.apply(Kind.WORKER_POOL, "w", pool_of(mail, allowedTasks=["reports.*"]))
    await world.settle(key)
    row = (
        "SELECT s.xmin, s.weight, s.concurrency, s.rate_limit, s.rate_seconds, p.xmin, p.allowed_tasks"
        " FROM scheduler_queue_settings s JOIN scheduler_pool_settings p ON p.tenant = s.tenant AND p.name = s.pool"
        " WHERE s.tenant = 'billing' AND s.queue = 'mail'"
    )
    (stored,) = await world.pool.fetch(row)
    assert tuple(stored)[1:5] == (3, 40, 100, 60)
    assert stored["allowed_tasks"] == ["reports.*"]

    await world.settle(key)
    assert await world.pool.fetch(row) == [stored]
    del world.cluster.objects[key]
    await world.settle(key)

    assert await world.pool.fetchval("SELECT count(*) FROM scheduler_pool_settings") == 0
    assert await world.pool.fetchval("SELECT count(*) FROM scheduler_queues WHERE limited") == 0


async def test_of_two_pools_the_older_sets_a_queue_and_the_younger_says_so_until_it_is_gone(world: World) -> None:
    world.cluster.deployments["workers"] = TargetScale(wanted=1, existing=1)
    older = world.cluster.apply(Kind.WORKER_POOL, "older", pool_of({"name": "mail", "concurrency": 5}))
    younger = world.cluster.apply(
        Kind.WORKER_POOL, "younger", pool_of({"name": "mail", "paused": True}, {"name": "default", "weight": 2})
    )
    for key in (younger, older, younger):
        await world.settle(key)
    assert world.cluster.condition(younger, "Degraded") == ("True", "QueueConflict")
    assert await world.pool.fetchval("SELECT concurrency FROM scheduler_queue_settings WHERE queue = 'mail'") == 5
    assert await world.pool.fetchval("SELECT weight FROM scheduler_queue_settings WHERE queue = 'default'") == 2

    del world.cluster.objects[older]
    for key in (older, younger, younger):
        await world.settle(key)

    assert world.cluster.condition(younger, "Degraded")[0] == "False"
    assert await world.pool.fetchval("SELECT paused FROM scheduler_queue_settings WHERE queue = 'mail'")


async def test_settings_of_a_pool_that_went_while_nobody_looked_are_swept(world: World) -> None:
    key = world.cluster.apply(Kind.WORKER_POOL, "w", pool_of({"name": "mail", "concurrency": 5}))
    await world.settle(key)
    del world.cluster.objects[key]

    assert await world.sweeper.run_once() == 1
    assert await world.pool.fetchval("SELECT count(*) FROM scheduler_queue_settings") == 0


async def tick(world: World, status: str, *, seconds: int = 0) -> None:
    """What workers do at a tick of the only schedule: a job that has ended, or runs, or waits."""
    await world.pool.execute(
        "WITH s AS (UPDATE scheduler_schedules SET ticks = ticks + 1, runs = runs + 1 RETURNING *)"
        " INSERT INTO scheduled_jobs (job_id, schedule_id, tick_at, execution_time, task, job_name, task_data, status,"
        " attempt, started_at, finished_at, worker_id, tenant, source_kind, source_uid, source_name, source_cluster)"
        " SELECT 'pj-' || ticks, id, t, t, 't', 't', '{}', $1, ($1 <> 'pending')::int, t,"
        " CASE WHEN $1 <> ALL ('{pending,running}') THEN now() END, 'w', tenant, source_kind, source_uid, source_name,"
        " source_cluster FROM s, LATERAL (SELECT now() - make_interval(secs => $2)) n(t)",
        status,
        float(seconds),
    )


async def turns(world: World) -> None:
    """A look at the rows, and a turn for each key that waits."""
    for key in await world.changed():
        await world.reconciler.reconcile(key)


async def test_schedule_that_ticks_every_second_costs_one_status_write_a_minute(world: World) -> None:
    key = world.cluster.apply(Kind.PERIODIC_JOB, "p", periodic_job())
    await world.settle(key)
    await world.changed()
    await tick(world, "completed", seconds=1)
    world.now += 60
    await turns(world)
    before = world.cluster.count("status", key)

    for _ in range(59):
        world.now += 1
        await tick(world, "completed")
        await turns(world)
    assert world.cluster.count("status", key) == before

    world.now += 1
    await world.reconciler.reconcile(key)
    assert world.cluster.count("status", key) == before + 1
    counts = world.cluster.objects[key]["status"]["counts"]
    assert (counts["planned"], counts["ran"]) == (60, 60)


async def test_counts_that_were_not_new_are_asked_for_again_and_others_are_not(world: World) -> None:
    key = world.cluster.apply(Kind.PERIODIC_JOB, "p", periodic_job())
    await world.settle(key)
    assert key not in world.queue._later

    world.now += 10
    await world.reconciler.reconcile(key)
    assert key in world.queue._later


async def test_suspension_flipped_a_hundred_times_a_second_costs_a_status_write_a_second(world: World) -> None:
    key = world.cluster.apply(Kind.PERIODIC_JOB, "p", periodic_job())
    await world.settle(key)
    world.now += 100
    before = world.cluster.count("status", key)

    for number in range(80):
        world.now += 0.01
        world.cluster.apply(Kind.PERIODIC_JOB, "p", periodic_job(suspend=number % 2 == 0))
        await world.reconciler.reconcile(key)

    assert world.cluster.count("status", key) - before <= 4 + 1  # a short burst, then one a second
    await world.settle(key)
    assert world.cluster.condition(key, "Suspended") == ("False", "Spec")


async def test_object_made_anew_begins_at_zero_and_the_history_of_the_old_one_stays(world: World) -> None:
    key = world.cluster.apply(Kind.PERIODIC_JOB, "p", periodic_job())
    await world.settle(key)
    await tick(world, "completed")
    await world.settle(key)
    assert world.cluster.objects[key]["status"]["counts"]["ran"] == 1
    anchor = "SELECT anchor_at FROM scheduler_schedules"
    await world.pool.execute("UPDATE scheduler_schedules SET anchor_at = anchor_at - interval '1 day'")
    before = await world.pool.fetchval(anchor)
    world.cluster.delete(key)
    await world.settle(key)

    world.cluster.apply(Kind.PERIODIC_JOB, "p", periodic_job())
    await world.settle(key)

    counts = world.cluster.objects[key]["status"]["counts"]
    assert (counts["planned"], counts["ran"]) == (0, 0)
    assert await world.pool.fetchval(anchor) > before
    assert await world.pool.fetchval("SELECT count(*) FROM scheduled_jobs WHERE source_name = 'p'") == 1


async def test_edit_of_the_template_keeps_the_anchor_and_one_of_the_rule_does_not(world: World) -> None:
    key = world.cluster.apply(Kind.PERIODIC_JOB, "p", periodic_job())
    await world.settle(key)
    await world.pool.execute("UPDATE scheduler_schedules SET anchor_at = anchor_at - interval '90 minutes'")
    anchor = "SELECT anchor_at FROM scheduler_schedules"
    before = await world.pool.fetchval(anchor)

    world.cluster.apply(Kind.PERIODIC_JOB, "p", periodic_job(jobTemplate={"spec": {"task": "u"}}))
    await world.settle(key)
    assert await world.pool.fetchval(anchor) == before

    world.cluster.apply(Kind.PERIODIC_JOB, "p", periodic_job(schedule={"intervalSeconds": 60}))
    await world.settle(key)
    now = await world.pool.fetchrow("SELECT anchor_at, next_tick_at FROM scheduler_schedules")
    assert now is not None
    assert now["anchor_at"] > before
    assert now["next_tick_at"] == now["anchor_at"] + timedelta(minutes=1)


async def test_tick_that_nobody_takes_up_is_told_once_until_one_is_on_time(world: World) -> None:
    key = world.cluster.apply(Kind.PERIODIC_JOB, "p", periodic_job())
    await world.settle(key)
    await world.changed()
    await world.pool.execute("UPDATE scheduler_schedules SET next_tick_at = now() - interval '61 seconds'")

    assert await world.changed() == {key}
    for _ in range(2):
        await world.settle(key)
    assert world.cluster.condition(key, "OnSchedule") == ("False", "NoWorker")
    assert world.cluster.reasons == ["NoWorker"]

    await world.pool.execute("UPDATE scheduler_schedules SET next_tick_at = now() + interval '1 hour'")
    await tick(world, "running")
    assert await world.changed() == {key}
    await world.settle(key)
    assert world.cluster.condition(key, "OnSchedule") == ("True", "OnTime")


async def test_sweep_ends_the_jobs_of_a_schedule_as_its_object_had_said(world: World) -> None:
    key = world.cluster.apply(Kind.PERIODIC_JOB, "p", periodic_job(deletionPolicy="Cancel"))
    await world.settle(key)
    await tick(world, "running")
    del world.cluster.objects[key]

    assert await world.sweeper.run_once() == 1

    row = await world.pool.fetchrow("SELECT status, stopping_worker FROM scheduled_jobs")
    assert row is not None
    assert tuple(row) == ("cancelled", "w")


def lose(world: World, key: Key) -> str:
    """The object goes without asking, as one does that is not held; its uid."""
    uid: str = world.cluster.objects.pop(key)["metadata"]["uid"]
    return uid


async def schedules(world: World) -> list[str]:
    rows = await world.pool.fetch("SELECT source_uid FROM scheduler_schedules ORDER BY id")
    return [row["source_uid"] for row in rows]


async def test_row_of_an_object_that_goes_before_it_is_held_goes_with_it(world: World) -> None:
    world.pacer = world.reconciler._executor._pacer = Pacer(lambda: 0.0, burst=0)
    key = world.cluster.apply(Kind.PERIODIC_JOB, "p", periodic_job())
    await world.reconciler.reconcile(key)
    assert world.cluster.objects[key]["metadata"]["finalizers"] == []
    assert len(await schedules(world)) == 1
    world.reconciler.gone(key, lose(world, key))

    assert world.queue._waiting == {key}
    await world.reconciler.reconcile(key)

    assert await schedules(world) == []


async def test_row_of_an_object_made_anew_stays_when_the_one_before_goes(world: World) -> None:
    key = world.cluster.apply(Kind.PERIODIC_JOB, "p", periodic_job())
    await world.reconciler.reconcile(key)
    gone = lose(world, key)
    world.cluster.apply(Kind.PERIODIC_JOB, "p", periodic_job())
    new = world.cluster.objects[key]["metadata"]["uid"]
    await world.reconciler.reconcile(key)
    assert await schedules(world) == [gone, new]
    world.reconciler.gone(key, gone)

    await world.reconciler.reconcile(key)

    assert await schedules(world) == [new]


async def test_object_that_went_after_it_was_read_makes_no_row(world: World) -> None:
    """A page of a crowd is read long before the last of its objects has its turn."""
    key = world.cluster.apply(Kind.PERIODIC_JOB, "p", periodic_job())
    read_before = await world.cluster.get(key)
    world.reconciler.gone(key, lose(world, key))

    await world.reconciler.reconcile(key, read_before)

    assert await schedules(world) == []


async def test_row_of_an_object_that_went_while_the_database_was_away_goes_when_it_is_back(world: World) -> None:
    key = world.cluster.apply(Kind.PERIODIC_JOB, "p", periodic_job())
    await world.reconciler.reconcile(key)
    world.reconciler.gone(key, lose(world, key))
    world.rows.away = True
    with pytest.raises(DatabaseUnreachable):
        await world.reconciler.reconcile(key)
    world.rows.away = False

    await world.reconciler.reconcile(key)

    assert await schedules(world) == []


async def test_many_that_were_seen_to_go_hold_no_sweep(world: World) -> None:
    keys = [world.cluster.apply(Kind.PERIODIC_JOB, f"p{number}", periodic_job()) for number in range(12)]
    await asyncio.gather(*(world.reconciler.reconcile(key) for key in keys))
    for key in keys:
        world.reconciler.gone(key, lose(world, key))

    assert await world.sweeper.run_once() == 12


async def test_restart_with_nothing_changed_writes_nothing(world: World) -> None:
    keys = [
        world.cluster.apply(Kind.PERIODIC_JOB, f"p{number}", periodic_job(schedule={"cron": ["0 2 * * *"]}))
        for number in range(12)
    ]
    for key in keys:
        await world.settle(key)
    newest_write = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint"
    before, writes = await world.pool.fetchval(newest_write), list(world.cluster.writes)
    rows = Rows(world.rows._control, cluster=CLUSTER)
    restarted = Reconciler(
        queue=KeyQueue(),
        resources=world.cluster,
        targets=world.cluster,
        rows=rows,
        pacer=Pacer(lambda: 0.0),
        sweeper=world.sweeper,
        metrics=world.metrics,
    )

    await asyncio.gather(*(restarted.reconcile(key) for key in keys))
    await restarted.enqueue_changed()

    assert world.cluster.writes == writes
    assert await world.pool.fetchval(newest_write) == before


async def test_many_new_schedules_share_their_statements(world: World) -> None:
    keys = [world.cluster.apply(Kind.PERIODIC_JOB, f"p{number}", periodic_job()) for number in range(40)]
    newest_write = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint"
    before = await world.pool.fetchval(newest_write)

    await asyncio.gather(*(world.reconciler.reconcile(key) for key in keys))

    assert await world.pool.fetchval("SELECT count(*) FROM scheduler_schedules") == 40
    assert await world.pool.fetchval(newest_write) - before < 10
    assert {world.cluster.condition(key, "Ready") for key in keys} == {("True", "Accepted")}


async def test_new_schedule_whose_status_must_wait_is_not_looked_at_again_before(world: World) -> None:
    key = world.cluster.apply(Kind.PERIODIC_JOB, "p", periodic_job())
    world.pacer._all._tokens = 0
    world.pacer._all._per_second = 0.01
    reads: list[str] = []
    world.cluster.fault = reads.append

    assert await world.reconciler.reconcile(key) is None

    assert world.pacer._line.keys() == {key}  # it will be called
    assert reads == ["get"]
    assert await world.pool.fetchval("SELECT count(*) FROM scheduler_schedules") == 1


async def test_pool_that_cannot_scale_says_nothing_of_a_database_that_answers(world: World) -> None:
    lost = world.cluster.apply(Kind.WORKER_POOL, "lost", worker_pool())
    world.cluster.deployments.clear()
    wrong = world.cluster.apply(Kind.WORKER_POOL, "wrong", {"autoscaling": {"maxReplicas": "many"}})

    for key in (lost, wrong):
        await world.settle(key)
        conditions = world.cluster.objects[key]["status"]["conditions"]
        told = {condition["type"]: condition["status"] for condition in conditions}
        assert (told["Ready"], told["DatabaseReachable"]) == ("False", "True")
