"""The runbook of docs/how-to/restore.md: the database is lost, and an older copy takes its place."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from pg_scheduler.control import Control
from pg_scheduler.job_status import JobStatus
from pg_scheduler_operator.gateway.scheduler import Rows
from pg_scheduler_operator.metrics import Metrics
from pg_scheduler_operator.pacing import Pacer
from pg_scheduler_operator.presence import Presence
from pg_scheduler_operator.reconcile.restored import settle
from pg_scheduler_operator.reconciler import KeyQueue, Reconciler, Sweeper
from pg_scheduler_operator.resources import Kind, ScheduledJobSpec, read
from pg_scheduler_operator.settings import Settings
from support.databases import EMPTY, bin_dir_of
from support.operator_world import CLUSTER, FakeCluster, body, job_row, periodic_job, scheduled_job
from support.world import World

if TYPE_CHECKING:
    from collections.abc import Callable

    import asyncpg

    from pg_scheduler_operator.resources import Key

FUTURE = "2030-01-01T00:00:00Z"


class Operator:
    """Turns for objects, between one database and an API server's objects."""

    def __init__(self, control: Control, cluster: FakeCluster) -> None:
        metrics, queue = Metrics(), KeyQueue()
        rows = Rows(control, cluster=CLUSTER)
        self.now = 0.0
        self.cluster = cluster
        self.sweeper = Sweeper(cluster, rows, metrics)
        pacer: Pacer[Key] = Pacer(lambda: self.now, per_second=1e6, burst=1e6)
        self.reconciler = Reconciler(
            queue=queue,
            resources=cluster,
            targets=cluster,
            rows=rows,
            pacer=pacer,
            sweeper=self.sweeper,
            metrics=metrics,
        )

    async def settle(self) -> None:
        """Until nothing is left to do."""
        for _ in range(3):
            self.now += 61
            for key in list(self.cluster.objects):
                await self.reconciler.reconcile(key)


def presence(control: Control, cluster: FakeCluster) -> Presence:
    settings = Settings.model_validate({"dsn": "postgresql://db/app", "adopt_by_name": True})
    resources: Any = cluster
    return Presence(control.operations, resources, settings, Metrics())


async def run_tool(tool: str, *arguments: str, stdin: bytes = b"") -> bytes:
    process = await asyncio.create_subprocess_exec(
        str(bin_dir_of(18) / tool),
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate(stdin)
    assert process.returncode == 0, err.decode()
    return out


async def test_nothing_runs_again_from_an_older_copy(
    dsn: str, pool: asyncpg.Pool[asyncpg.Record], new_database: Callable[..., str]
) -> None:
    cluster, world = FakeCluster(), World.over(pool)
    keys = {
        name: cluster.apply(Kind.SCHEDULED_JOB, name, scheduled_job(**spec))
        for name, spec in {"done": {}, "running": {}, "later": {"runAt": FUTURE}}.items()
    }
    cluster.apply(Kind.PERIODIC_JOB, "hourly", periodic_job())
    async with Control(dsn) as control:
        operator = Operator(control, cluster)
        await operator.settle()
        copy = await run_tool("pg_dump", "--format=custom", f"--dbname={dsn}")

        worker = await world.worker()
        await pool.execute("UPDATE scheduler_workers SET tenant = 'billing'")
        claimed = await world.jobs.claim(worker, "billing", ["default"], ["t"], 10)
        done = f"sj-{cluster.objects[keys['done']]['metadata']['uid']}"
        await pool.execute(
            "UPDATE scheduled_jobs SET status = 'completed', finished_at = now() WHERE job_id = $1", done
        )
        await operator.settle()
    highest = max(job.token for job in claimed)
    assert cluster.condition(keys["done"], "Finished") == ("True", "Complete")
    told = dict(cluster.objects[keys["done"]]["status"])

    restored = new_database(template=EMPTY)
    await run_tool("pg_restore", "--no-owner", f"--dbname={restored}", stdin=copy)
    for key in (keys["later"], keys["running"]):  # as if these objects had been applied anew
        cluster.objects[key]["metadata"]["uid"] += "-new"
    async with Control(restored) as control:
        await control.operations.begin_maintenance(by="the test")
        await control.operations.skip_tokens()
        operator = Operator(control, cluster)
        await presence(control, cluster).begin()
        await operator.settle()
        assert await operator.sweeper.run_once() == 0

        assert cluster.objects[keys["done"]]["status"] == told
        ended = await control.job(done)
        assert ended is not None
        assert ended.status is JobStatus.COMPLETED
        async with _pool_of(restored) as there:
            names = await there.fetch("SELECT source_name, count(*) FROM scheduled_jobs GROUP BY 1 ORDER BY 1")
            schedules = await there.fetch("SELECT source_name FROM scheduler_schedules")
            after = World.over(there)
            worker = await after.worker()
            await there.execute("UPDATE scheduler_workers SET tenant = 'billing'")
            assert await after.jobs.claim(worker, "billing", ["default"], ["t"], 10) == []
            await control.operations.end_maintenance()
            again = await after.jobs.claim(worker, "billing", ["default"], ["t"], 10)
    assert [tuple(row) for row in names] == [("done", 1), ("later", 1), ("running", 1)]
    assert [row["source_name"] for row in schedules] == ["hourly"]
    assert [job.job_id for job in again] == [f"sj-{cluster.objects[keys['running']]['metadata']['uid']}"]
    assert again[0].token > highest + 10**11


def _pool_of(dsn: str) -> asyncpg.Pool[asyncpg.Record]:
    import asyncpg  # noqa: PLC0415

    return asyncpg.create_pool(dsn, min_size=1, max_size=2)


@pytest.mark.parametrize("reason", ["Complete", "Failed", "Cancelled", "Expired"])
@pytest.mark.parametrize("status", [JobStatus.PENDING, JobStatus.RUNNING])
def test_row_gets_the_end_that_its_object_has_seen(reason: str, status: JobStatus) -> None:
    job = read(
        ScheduledJobSpec, body(Kind.SCHEDULED_JOB, scheduled_job(), status=finished("True", reason)), cluster=CLUSTER
    )

    (action,) = settle(job, job_row(status))

    assert action.status.value == {"Complete": "completed"}.get(reason, reason.lower())


@pytest.mark.parametrize(
    ("told", "row"),
    [
        ("True", None),
        ("True", job_row(JobStatus.COMPLETED)),
        ("True", job_row(source=None)),
        ("False", job_row(JobStatus.RUNNING)),
    ],
)
def test_row_that_agrees_or_is_anothers_is_left_alone(told: str, row: Any) -> None:
    job = read(
        ScheduledJobSpec, body(Kind.SCHEDULED_JOB, scheduled_job(), status=finished(told, "Complete")), cluster=CLUSTER
    )

    assert settle(job, row) == []


def finished(status: str, reason: str) -> dict[str, Any]:
    return {"conditions": [{"type": "Finished", "status": status, "reason": reason}], "attempt": 1}
