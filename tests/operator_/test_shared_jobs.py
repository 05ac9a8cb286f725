"""Turns of the reconciler for ScheduledJobs whose job outlives them, is shared, or refers to a PeriodicJob."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest

from pg_scheduler.control import Control
from pg_scheduler_operator.gateway.scheduler import Rows
from pg_scheduler_operator.metrics import Metrics
from pg_scheduler_operator.pacing import Pacer
from pg_scheduler_operator.reconciler import KeyQueue, Reconciler, Sweeper
from pg_scheduler_operator.resources import FINALIZER, Key, Kind
from support.operator_world import CLUSTER, FakeCluster, periodic_job, scheduled_job

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import asyncpg

KEYED = scheduled_job(idempotencyKey="k")
KEYED_ID = "key:billing/k"
EXTRA = {"periodicJobRef": {"name": "nightly"}}


class World:
    """One reconciler between a real database and the objects of a fake API server."""

    def __init__(self, control: Control, pool: asyncpg.Pool[asyncpg.Record]) -> None:
        self.cluster = FakeCluster()
        self.pool = pool
        rows, metrics = Rows(control, cluster=CLUSTER), Metrics()
        self.sweeper = Sweeper(self.cluster, rows, metrics)
        self.reconciler = Reconciler(
            queue=KeyQueue(),
            resources=self.cluster,
            targets=self.cluster,
            rows=rows,
            pacer=Pacer(lambda: 0.0, metrics=metrics, coalesced_seconds=0, per_second=1e6, burst=1e6),
            sweeper=self.sweeper,
            metrics=metrics,
        )

    async def apply(self, spec: Any, name: str = "a", kind: Kind = Kind.SCHEDULED_JOB) -> Key:
        """Make or change an object, and let the operator see it."""
        key = self.cluster.apply(kind, name, spec)
        await self.reconciler.reconcile(key)
        return key

    async def delete(self, key: Key) -> None:
        """Delete an object, and let the operator see it."""
        self.cluster.delete(key)
        await self.reconciler.reconcile(key)

    async def run(self, status: str) -> None:
        """What workers do to every job that is open."""
        await self.pool.execute(
            "UPDATE scheduled_jobs SET status = $1, attempt = 1, worker_id = 'w', started_at = now(),"
            " finished_at = CASE WHEN $1 <> 'running' THEN now() END WHERE finished_at IS NULL",
            status,
        )

    async def start(self) -> int:
        """What a claim does; how many jobs were started."""
        answer = await self.pool.execute(
            "UPDATE scheduled_jobs SET status = 'running', attempt = attempt + 1, worker_id = 'w', started_at = now()"
            " WHERE status = 'pending' AND NOT suspended"
        )
        return int(answer.removeprefix("UPDATE "))

    async def vacuum(self) -> None:
        """What retention does to every job that has ended."""
        await self.pool.execute(
            "SELECT scheduler_delete_ended(ARRAY(SELECT ctid FROM scheduled_jobs WHERE finished_at IS NOT NULL))"
        )

    async def statuses(self) -> dict[str, str]:
        return {row[0]: row[1] for row in await self.pool.fetch("SELECT job_id, status FROM scheduled_jobs")}

    def told(self, key: Key, name: str) -> tuple[str, str]:
        return self.cluster.condition(key, name)


@pytest.fixture
async def world(dsn: str, pool: asyncpg.Pool[asyncpg.Record]) -> AsyncIterator[World]:
    async with Control(dsn) as control:
        yield World(control, pool)


@pytest.mark.parametrize("vacuumed", [False, True], ids=["row there", "row gone"])
async def test_job_that_is_applied_again_after_its_time_to_live_does_not_run_again(
    world: World, vacuumed: bool
) -> None:
    key = await world.apply({**KEYED, "ttlSecondsAfterFinished": 0})
    await world.run("completed")
    await world.reconciler.reconcile(key)
    await world.reconciler.reconcile(key)  # it has said how it ended
    await world.reconciler.reconcile(key)  # and goes
    assert key not in world.cluster.objects
    if vacuumed:
        await world.vacuum()

    await world.apply({**KEYED, "ttlSecondsAfterFinished": 3600})

    assert world.told(key, "Complete") == ("True", "Complete")
    assert await world.statuses() == ({} if vacuumed else {KEYED_ID: "completed"})


@pytest.mark.parametrize(
    "spec", [scheduled_job(), {**KEYED, "conflictPolicy": "Ignore"}], ids=["without a key", "with a key"]
)
async def test_job_that_ended_and_was_cleaned_up_while_no_operator_looked_does_not_run_again(
    world: World, spec: Any
) -> None:
    key = await world.apply(spec)
    await world.run("completed")
    await world.vacuum()
    world.cluster.apply(Kind.SCHEDULED_JOB, "a", {**spec, "runAt": "2030-01-01T00:00:00Z"})

    await world.reconciler.reconcile(key)

    assert world.told(key, "Complete") == ("True", "Complete")
    assert world.told(key, "Ready") == ("True", "Accepted")
    assert await world.statuses() == {}


async def test_job_that_was_deleted_before_it_started_runs_when_it_is_applied_again(world: World) -> None:
    await world.delete(await world.apply(KEYED))
    assert await world.statuses() == {KEYED_ID: "cancelled"}

    key = await world.apply(KEYED)

    assert await world.statuses() == {KEYED_ID: "pending"}
    assert world.told(key, "Finished") == ("False", "NotFinished")


async def test_running_job_belongs_to_the_object_that_is_applied_again(world: World) -> None:
    key = await world.apply(KEYED)
    await world.run("running")
    await world.delete(key)

    key = await world.apply(KEYED)
    assert world.told(key, "Started") == ("True", "Started")
    await world.apply({**KEYED, "cancel": True})

    assert await world.statuses() == {KEYED_ID: "cancelled"}


async def test_two_objects_of_one_key_are_one_job_and_its_owners(world: World) -> None:
    owner = await world.apply(KEYED, "owner")
    other = await world.apply(KEYED, "other")
    assert world.told(other, "Ready") == ("True", "Accepted")

    await world.delete(other)
    assert await world.statuses() == {KEYED_ID: "pending"}

    await world.delete(owner)
    assert await world.statuses() == {KEYED_ID: "cancelled"}


@pytest.mark.parametrize(("policy", "verdict"), [("Raise", ("True", "KeyConflict")), ("Ignore", ("False", "Accepted"))])
async def test_another_job_of_a_taken_key_is_never_made(world: World, policy: str, verdict: Any) -> None:
    await world.apply(KEYED, "owner")

    other = await world.apply(scheduled_job(idempotencyKey="k", startingDeadlineSeconds=7, conflictPolicy=policy), "b")

    assert world.told(other, "Stalled") == verdict
    assert await world.pool.fetchval("SELECT source_name FROM scheduled_jobs") == "owner"


async def test_extra_run_is_made_when_its_periodic_job_is_there_and_is_no_tick(world: World) -> None:
    key = await world.apply(EXTRA)
    assert world.told(key, "Ready") == ("False", "PeriodicJobNotFound")
    assert world.told(key, "Stalled") == ("False", "PeriodicJobNotFound")
    assert await world.statuses() == {}

    await world.apply(periodic_job(), "nightly", Kind.PERIODIC_JOB)
    await world.reconciler.reconcile(key)

    assert world.told(key, "Ready") == ("True", "Accepted")
    row = await world.pool.fetchrow("SELECT *, metadata->>'pgscheduler.io/periodic-job' AS of FROM scheduled_jobs")
    assert row is not None
    assert (row["task"], row["schedule_id"], row["tick_at"], row["concurrency_key"]) == ("t", None, None, None)
    assert row["of"] == "nightly"
    assert await world.pool.fetchval("SELECT ticks FROM scheduler_schedules") == 0


async def test_change_of_the_periodic_job_does_not_change_an_extra_run(world: World) -> None:
    await world.apply(periodic_job(), "nightly", Kind.PERIODIC_JOB)
    await world.apply(EXTRA)
    await world.run("running")
    await world.apply(periodic_job(jobTemplate={"spec": {"task": "another"}}), "nightly", Kind.PERIODIC_JOB)

    key = await world.apply({**EXTRA, "ttlSecondsAfterFinished": 5})

    assert world.told(key, "Stalled") == ("False", "Accepted")
    assert await world.pool.fetchval("SELECT task FROM scheduled_jobs") == "t"


async def test_job_whose_deadline_passes_without_a_worker_has_failed_as_expired(world: World) -> None:
    key = await world.apply(scheduled_job(startingDeadlineSeconds=0))

    assert world.told(key, "Failed") == ("True", "Expired")
    assert world.told(key, "Finished") == ("True", "Expired")


async def test_deadline_and_time_to_live_bring_the_object_back_by_themselves(world: World) -> None:
    key = world.cluster.apply(
        Kind.SCHEDULED_JOB, "a", scheduled_job(startingDeadlineSeconds=600, ttlSecondsAfterFinished=60)
    )

    first = await world.reconciler.reconcile(key)
    await world.run("completed")
    second = await world.reconciler.reconcile(key)

    assert first is not None
    assert second is not None
    assert 0 < second <= 60 < first <= 601


@pytest.mark.parametrize(
    ("policy", "status", "owner"),
    [("CancelPending", "running", "a"), ("Cancel", "cancelled", "a"), ("Orphan", "running", None)],
)
async def test_deletion_of_an_object_whose_job_runs(world: World, policy: str, status: str, owner: str | None) -> None:
    key = await world.apply(scheduled_job(deletionPolicy=policy))
    await world.run("running")

    await world.delete(key)

    assert key not in world.cluster.objects
    row = await world.pool.fetchrow("SELECT status, source_name FROM scheduled_jobs")
    assert row is not None
    assert tuple(row) == (status, owner)


@pytest.mark.parametrize(("policy", "status"), [("CancelPending", "cancelled"), ("Orphan", "pending")])
async def test_sweep_does_for_a_key_what_its_row_says(world: World, policy: str, status: str) -> None:
    key = await world.apply({**KEYED, "deletionPolicy": policy})
    world.cluster.objects[key]["metadata"]["finalizers"].remove(FINALIZER)
    world.cluster.delete(key)

    await world.sweeper.run_once()
    await world.sweeper.run_once()

    assert await world.statuses() == {KEYED_ID: status}
    assert await world.pool.fetchval("SELECT source_uid IS NULL FROM scheduled_jobs") is (policy == "Orphan")


async def test_result_goes_into_the_status(world: World) -> None:
    key = await world.apply(scheduled_job(template={"spec": {"task": "t", "resultPolicy": "Status"}}))
    assert await world.pool.fetchval("SELECT keep_result FROM scheduled_jobs")
    await world.run("completed")
    await world.pool.execute(
        """INSERT INTO scheduler_results (job_id, token, result) SELECT job_id, token, '{"rows": 812}'
           FROM scheduled_jobs"""
    )

    await world.reconciler.reconcile(key)

    assert world.cluster.objects[key]["status"]["result"] == {"rows": 812}


async def test_suspension_of_a_started_job_holds_its_next_attempt(world: World) -> None:
    await world.apply(scheduled_job())
    await world.run("running")

    key = await world.apply(scheduled_job(suspend=True))

    assert world.told(key, "Stalled") == ("False", "Accepted")
    assert await world.pool.fetchval("SELECT suspended FROM scheduled_jobs")


@pytest.mark.parametrize("seed", range(2))
async def test_whatever_happens_a_key_starts_once_and_the_operator_comes_to_rest(world: World, seed: int) -> None:
    """Objects of three names come, go and change under one key, while workers and the retention do their part."""
    chance = random.Random(seed)  # noqa: S311 (no secret)
    specs = [
        {**KEYED, "deletionPolicy": chance.choice(["CancelPending", "Cancel", "Orphan"]), **change}
        for change in ({}, {"suspend": True}, {"conflictPolicy": "Ignore", "startingDeadlineSeconds": 3600})
    ]
    started = 0
    for _ in range(25):
        name = chance.choice("abc")
        key = Key(kind=Kind.SCHEDULED_JOB, namespace="billing", name=name)
        match chance.choice(["apply", "apply", "delete", "start", "end", "vacuum"]):
            case "apply":
                await world.apply(chance.choice(specs), name)
            case "delete" if key in world.cluster.objects:
                await world.delete(key)
            case "start":
                started += await world.start()
            case "end":
                await world.pool.execute(
                    "UPDATE scheduled_jobs SET status = $1, finished_at = now() WHERE status = 'running'",
                    chance.choice(["completed", "failed"]),
                )
            case "vacuum":
                await world.vacuum()
            case _:
                pass  # there is nothing to delete
        for other in list(world.cluster.objects):
            await world.reconciler.reconcile(other)
        writes = list(world.cluster.writes)
        for other in list(world.cluster.objects):
            await world.reconciler.reconcile(other)

        assert world.cluster.writes == writes
        assert started <= 1
        assert len(await world.statuses()) <= 1
