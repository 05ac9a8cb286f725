"""``pgscheduler dev``: manifests become rows, code is loaded again, data stay."""

from __future__ import annotations

import re
import signal
import time
from typing import TYPE_CHECKING

import asyncpg
import pytest
import yaml

from support.waiting import SLACK, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from support.commands import RunCommand, Running, StartCommand

    Connect = Callable[[Running], Awaitable[asyncpg.Connection[asyncpg.Record]]]

MANIFEST = """
apiVersion: pgscheduler.io/v1alpha1
kind: ScheduledJob
metadata: {name: later}
spec:
  runAt: "2999-01-01T00:00:00Z"
  template: {spec: {task: shop.note, args: [FIRST], priority: Normal}}
"""
POOL = """
apiVersion: pgscheduler.io/v1alpha1
kind: WorkerPool
metadata: {{name: pool}}
spec:
  targetRef: {{apiVersion: apps/v1, kind: Deployment, name: workers}}
  replicas: {wish}
  autoscaling: {{mode: "Off"}}
"""
APP = """
import pathlib
from pg_scheduler import task

@task(name="shop.note")
async def note(text):
    pathlib.Path("noted").write_text("VERSION " + text)
"""


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """Connect to the database that a running ``dev`` has named."""
    connections: list[asyncpg.Connection[asyncpg.Record]] = []

    async def connect_to(dev: Running) -> asyncpg.Connection[asyncpg.Record]:
        await dev.says("PGSCHEDULER_DSN='")
        found = re.search(r"PGSCHEDULER_DSN='([^']+)'\n", dev.err)
        assert found is not None
        connections.append(await asyncpg.connect(found[1]))
        return connections[-1]

    yield connect_to
    for connection in connections:
        await connection.close()


@pytest.fixture
def start_dev(start_pgscheduler: StartCommand, tmp_path: Path) -> Callable[[], Running]:
    (tmp_path / "manifests").mkdir()
    (tmp_path / "tasks.py").write_text(APP)
    return lambda: start_pgscheduler("dev", "tasks.py", "--manifests", "manifests")


async def test_saved_manifest_is_a_row_within_a_second_and_has_a_status_beside_it(
    start_dev: Callable[[], Running], connect: Connect, tmp_path: Path
) -> None:
    file, status_file = tmp_path / "manifests" / "later.yaml", tmp_path / "manifests" / "later.status.yaml"
    file.write_text(MANIFEST)
    dev = start_dev()
    database = await connect(dev)

    async def stored() -> str:
        return str(await database.fetchval("SELECT task_data::text FROM scheduled_jobs"))

    async def is_stored(text: str) -> bool:
        return text in await stored()

    await until(lambda: is_stored("FIRST"))
    saved_at = time.monotonic()
    file.write_text(MANIFEST.replace("FIRST", "SECOND"))
    await until(lambda: is_stored("SECOND"))

    assert time.monotonic() - saved_at < 1 * SLACK
    await until(lambda: yaml.safe_load(status_file.read_text())["status"]["observedGeneration"] == 2)
    assert yaml.safe_load(status_file.read_text())["status"]["state"] == "Pending"


async def test_saved_code_is_run_by_a_new_worker(
    start_dev: Callable[[], Running], connect: Connect, tmp_path: Path
) -> None:
    dev = start_dev()
    database = await connect(dev)
    await dev.says("started with 2 tasks")

    (tmp_path / "tasks.py").write_text(APP.replace("VERSION", "mended"))
    await dev.says("tasks.py has changed")
    (tmp_path / "manifests" / "now.yaml").write_text(MANIFEST.replace("2999", "2020").replace("FIRST", "code"))

    noted = tmp_path / "noted"
    assert await until(lambda: noted.exists() and noted.read_text()) == "mended code"  # a file is there before its text
    await until(lambda: _alive(database, 1))


async def _alive(database: asyncpg.Connection[asyncpg.Record], number: int) -> bool:
    return bool(await database.fetchval("SELECT count(*) = $1 FROM scheduler_workers WHERE state = 'alive'", number))


async def test_pool_says_how_many_workers_there_are(
    start_dev: Callable[[], Running], connect: Connect, tmp_path: Path
) -> None:
    file = tmp_path / "manifests" / "pool.yaml"
    file.write_text(POOL.format(wish=3))
    dev = start_dev()
    database = await connect(dev)

    await until(lambda: _alive(database, 3))
    file.write_text(POOL.format(wish=1))

    await until(lambda: _alive(database, 1))


async def test_broken_code_is_told_and_waited_for(start_dev: Callable[[], Running], tmp_path: Path) -> None:
    dev = start_dev()
    await dev.says("started with 2 tasks")

    (tmp_path / "tasks.py").write_text("def (\n")
    await dev.says("tasks.py does not import: SyntaxError")
    await dev.says("it starts again when tasks.py changes")
    started_before = dev.err.count("started with 2 tasks")
    (tmp_path / "tasks.py").write_text(APP)

    await until(lambda: dev.err.count("started with 2 tasks") > started_before)
    assert "Traceback" not in dev.err


async def test_second_start_finds_the_data_and_the_first_has_ended_clean(
    start_dev: Callable[[], Running], connect: Connect, tmp_path: Path
) -> None:
    (tmp_path / "manifests" / "later.yaml").write_text(MANIFEST)
    made_at = []
    for _ in range(2):
        dev = start_dev()
        database = await connect(dev)
        await dev.says("started with 2 tasks")
        await until((tmp_path / "manifests" / "later.status.yaml").exists)
        made_at += [row["created_at"] for row in await database.fetch("SELECT created_at FROM scheduled_jobs")]
        await database.close()

        dev.process.send_signal(signal.SIGINT)

        assert dev.wait() == 130
    assert len(made_at) == 2
    assert made_at[0] == made_at[1]
    assert (tmp_path / ".pgscheduler" / ".gitignore").read_text() == "*\n"


def test_dev_without_its_app_is_app_not_found(pgscheduler: RunCommand) -> None:
    assert "no such file: nowhere.py" in pgscheduler("dev", "nowhere.py").require_block("PGS-006", exit_code=2)


def test_dev_without_its_folder_is_wrong_usage(pgscheduler: RunCommand, tmp_path: Path) -> None:
    (tmp_path / "tasks.py").write_text(APP)

    ended = pgscheduler("dev", "tasks.py", "--manifests", "nowhere")

    assert ended.exit_code == 2
    assert "'nowhere' does not exist" in ended.err
