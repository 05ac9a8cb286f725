"""The folder, the reconciler and a real database together."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from pg_scheduler.control import Control
from pg_scheduler_operator import file_mode
from pg_scheduler_operator.errors import InvalidManifest
from pg_scheduler_operator.gateway.local_workers import LocalWorkers
from support.waiting import PATIENCE, SLACK, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    import asyncpg

    from pg_scheduler_operator.resources import Key

    Pool = asyncpg.Pool[asyncpg.Record]

JOB = """
apiVersion: pgscheduler.io/v1alpha1
kind: ScheduledJob
metadata: {{name: {name}}}
spec: {{runAt: "2030-01-01T00:00:00Z", template: {{spec: {{task: {task}}}}}}}
"""
PERIODIC = """
apiVersion: pgscheduler.io/v1alpha1
kind: PeriodicJob
metadata: {name: p}
spec: {schedule: {cron: ["0 2 * * *"]}, jobTemplate: {spec: {task: t}}}
"""


@asynccontextmanager
async def served(dsn: str, folder: Path, **options: Any) -> AsyncIterator[dict[str, Mapping[str, Any]]]:
    """The folder served while the block runs; the newest status of each object by its name."""
    statuses: dict[str, Mapping[str, Any]] = {}

    def on_status(key: Key, status: Mapping[str, Any]) -> None:
        statuses[key.name] = status

    stop = asyncio.Event()
    async with Control(dsn) as control:
        task = asyncio.create_task(file_mode.run(control, folder, stop=stop, on_status=on_status, **options))
        try:
            yield statuses
        finally:
            stop.set()
            await asyncio.wait_for(task, PATIENCE)


def ready(statuses: Mapping[str, Mapping[str, Any]], name: str) -> str:
    conditions = statuses.get(name, {}).get("conditions", ())
    return next((f"{c['status']}/{c['reason']}" for c in conditions if c["type"] == "Ready"), "")


async def rows(pool: Pool) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in await pool.fetch("SELECT source_name, task, status FROM scheduled_jobs ORDER BY id")]


async def test_folder_becomes_rows_and_statuses(
    dsn: str, pool: Pool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a.yaml").write_text(JOB.format(name="a", task="t"))
    (tmp_path / "p.yaml").write_text(PERIODIC)

    async with served(dsn, tmp_path) as statuses:
        await until(lambda: (ready(statuses, "a"), ready(statuses, "p")) == ("True/Accepted", "True/Accepted"))

        assert ("a", "t", "pending") in await rows(pool)
        assert statuses["p"]["nextScheduleTimes"][0].endswith("T02:00:00+00:00")
        written = yaml.safe_load((tmp_path / "a.status.yaml").read_text())
        assert written["status"] == statuses["a"]
    assert caplog.text == ""


async def test_saved_edit_is_a_row_within_a_second(dsn: str, pool: Pool, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(JOB.format(name="a", task="t"))
    async with served(dsn, tmp_path) as statuses:
        await until(lambda: ready(statuses, "a") == "True/Accepted")

        (tmp_path / "a.yaml").write_text(JOB.format(name="a", task="edited"))
        begin = time.monotonic()
        await until(lambda: _has(pool, ("a", "edited", "pending")))

        assert time.monotonic() - begin < 1 * SLACK


async def _has(pool: Pool, row: tuple[Any, ...]) -> bool:
    return row in await rows(pool)


async def test_job_of_a_key_in_a_folder_is_one_job_whatever_its_file_says_later(
    dsn: str, pool: Pool, tmp_path: Path
) -> None:
    extra = JOB.format(name="x", task="t").replace("template: {spec: {task: t}}", "periodicJobRef: {name: p}")
    (tmp_path / "p.yaml").write_text(PERIODIC)
    (tmp_path / "x.yaml").write_text(extra.replace("runAt", "idempotencyKey: k, runAt"))
    async with served(dsn, tmp_path) as statuses:
        await until(lambda: ready(statuses, "x") == "True/Accepted")
        assert statuses["x"]["jobID"] == "key:default/k"

        (tmp_path / "x.yaml").write_text(extra.replace("runAt", "idempotencyKey: another, runAt"))
        await until(lambda: ready(statuses, "x") == "False/InvalidSpec")
        assert await rows(pool) == [("x", "t", "pending")]

        (tmp_path / "x.yaml").unlink()
        await until(lambda: _has(pool, ("x", "t", "cancelled")))


async def test_manifest_taken_away_takes_its_row_along(dsn: str, pool: Pool, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(JOB.format(name="a", task="t"))
    async with served(dsn, tmp_path) as statuses:
        await until(lambda: ready(statuses, "a") == "True/Accepted")

        (tmp_path / "a.yaml").unlink()

        await until(lambda: _has(pool, ("a", "t", "cancelled")))
        await until(lambda: not (tmp_path / "a.status.yaml").exists())


async def test_manifest_taken_away_while_nobody_looked_is_swept(dsn: str, pool: Pool, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(JOB.format(name="a", task="t"))
    async with served(dsn, tmp_path) as statuses:
        await until(lambda: ready(statuses, "a") == "True/Accepted")
    (tmp_path / "a.yaml").unlink()

    async with served(dsn, tmp_path):
        await until(lambda: _has(pool, ("a", "t", "cancelled")))


async def test_second_start_changes_nothing(dsn: str, pool: Pool, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(JOB.format(name="a", task="t"))
    async with served(dsn, tmp_path) as statuses:
        await until(lambda: ready(statuses, "a") == "True/Accepted")
    before = await pool.fetch("SELECT xmin, * FROM scheduled_jobs")

    async with served(dsn, tmp_path) as statuses:
        await until(lambda: ready(statuses, "a") == "True/Accepted")

    assert await pool.fetch("SELECT xmin, * FROM scheduled_jobs") == before


async def test_bad_manifests_do_not_hold_up_good_ones(
    dsn: str, pool: Pool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "1.yaml").write_text("a: [")
    (tmp_path / "2.yaml").write_text(PERIODIC.replace("0 2", "0 25"))
    (tmp_path / "3.yaml").write_text(JOB.format(name="bad", task="'not a key'"))
    (tmp_path / "4.yaml").write_text(JOB.format(name="good", task="t"))

    async with served(dsn, tmp_path) as statuses:
        await until(lambda: ready(statuses, "good") == "True/Accepted")
        await until(lambda: ready(statuses, "p") == "False/InvalidSchedule")
        await until(lambda: ready(statuses, "bad") == "False/InvalidSpec")

    assert await rows(pool) == [("good", "t", "pending")]
    assert caplog.text.count("1.yaml: PGS-041") == 1


async def test_end_of_a_job_is_told(dsn: str, pool: Pool, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(JOB.format(name="a", task="t"))
    async with served(dsn, tmp_path, write_status=False) as statuses:
        await until(lambda: ready(statuses, "a") == "True/Accepted")

        await pool.execute(
            "UPDATE scheduled_jobs SET status = 'completed', attempt = 1, started_at = now(), finished_at = now()"
        )

        await until(lambda: statuses["a"].get("state") == "Complete")
    assert [file.name for file in tmp_path.iterdir()] == ["a.yaml"]


async def test_folder_that_is_none_is_refused(dsn: str, tmp_path: Path) -> None:
    async with Control(dsn) as control:
        with pytest.raises(InvalidManifest, match="no folder"):
            await file_mode.run(control, tmp_path / "none", stop=asyncio.Event())


POOL = """
apiVersion: pgscheduler.io/v1alpha1
kind: WorkerPool
metadata: {{name: {name}}}
spec:
  targetRef: {{apiVersion: apps/v1, kind: Deployment, name: workers}}
  replicas: {wish}
  autoscaling: {{mode: "Off"}}
"""


async def test_first_pool_of_the_folder_says_how_many_processes_are_wanted(dsn: str, tmp_path: Path) -> None:
    workers = LocalWorkers()
    (tmp_path / "b.yaml").write_text(POOL.format(name="b", wish=7))
    (tmp_path / "a.yaml").write_text(POOL.format(name="a", wish=3))

    async with served(dsn, tmp_path, workers=workers) as statuses:
        await until(lambda: (ready(statuses, "a"), ready(statuses, "b")) == ("True/Accepted", "False/TargetNotFound"))
        await until(lambda: workers.wanted == 3)
        (tmp_path / "a.yaml").unlink()
        await until(lambda: workers.wanted == 7)
