"""The whole operator in this process, between a real database and an API server's manners."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import time
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

import aiohttp
import pytest
from aiohttp import web
from kubernetes_asyncio.config import kube_config

from pg_scheduler._store import migrator
from pg_scheduler.control import Control
from pg_scheduler.errors import InvalidDsn
from pg_scheduler_operator import app, leadership
from pg_scheduler_operator.errors import NameTaken
from pg_scheduler_operator.gateway import kube
from pg_scheduler_operator.reconciler import loops
from pg_scheduler_operator.resources import Kind
from pg_scheduler_operator.settings import Settings
from support.api_writes import is_allowed
from support.databases import EMPTY
from support.kube_server import LEASE_PATH, OURS, ApiServer, crd_path
from support.operator_world import periodic_job, scheduled_job, worker_pool
from support.proxy import Proxy
from support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    import asyncpg

    from support.kube_server import Fault

    Run = Callable[..., AbstractAsyncContextManager["Running"]]

FUTURE = "2030-01-01T00:00:00Z"
_FAILED_JOB = """
INSERT INTO scheduler_attempts (job_id, token, attempt, worker_id, error_type, message, traceback)
SELECT job_id, 1, 1, 'w', 'KeyError', 'canary 4111', '' FROM scheduled_jobs;
UPDATE scheduled_jobs SET status = 'failed', attempt = 1, worker_id = 'w', finished_at = now()
"""
NOWHERE = "postgresql://nobody@/nothing?host=/nowhere&port=1"


class Running:
    """An operator that runs, and where it answers."""

    task: asyncio.Task[None]

    def __init__(self, port: int) -> None:
        self.port = port
        self.lost = False
        self._address = f"http://127.0.0.1:{port}"

    async def get(self, page: str) -> tuple[int, str]:
        if self.task.done():
            self.task.result()
        async with aiohttp.ClientSession() as session, session.get(f"{self._address}/{page}") as response:
            return response.status, (await response.text()).strip()

    async def ready(self) -> None:
        await until(lambda: self.says("readyz", (200, "ok")))

    async def says(self, page: str, answer: tuple[int, str]) -> bool:
        try:
            given = await self.get(page)
            assert given == answer
        except aiohttp.ClientConnectionError:  # it does not listen yet
            return False
        return True

    def lose(self) -> NoReturn:
        self.lost = True
        self.task.cancel()
        raise asyncio.CancelledError


@pytest.fixture
async def api() -> AsyncIterator[ApiServer]:
    async with ApiServer().serving() as server:
        yield server


@pytest.fixture
def run(api: ApiServer, dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Start an operator; at the block's end it is told to stop."""
    for name in [name for name in os.environ if name.startswith("KUBERNETES_")]:
        monkeypatch.delenv(name)

    @asynccontextmanager
    async def start(**given: Any) -> AsyncIterator[Running]:
        server = given.pop("api", api)
        config = str(server.kubeconfig(tmp_path))
        monkeypatch.setenv("KUBECONFIG", config)  # kopf reads it when it logs in, the client when it is imported
        monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", config)
        settings = Settings.model_validate({"dsn": dsn, "lease_namespace": "ops", **given})
        running = Running(_free_port())
        work = app.run_operator(settings, on_lost=running.lose, http=("127.0.0.1", running.port))
        running.task = asyncio.create_task(work)
        try:
            yield running
        finally:
            running.task.cancel()
            await asyncio.wait({running.task}, timeout=20)
            assert running.task.done()

    return start


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


async def test_objects_become_rows_and_rows_statuses(
    run: Run, api: ApiServer, pool: asyncpg.Pool[asyncpg.Record]
) -> None:
    before = api.apply(Kind.SCHEDULED_JOB, "before", scheduled_job(runAt=FUTURE))
    async with run() as operator:
        await operator.ready()
        after = api.apply(Kind.PERIODIC_JOB, "after", periodic_job())

        await until(lambda: api.condition(before, "Ready") == api.condition(after, "Ready") == "True")

    assert await pool.fetchval("SELECT count(*) FROM scheduled_jobs WHERE source_name = 'before'") == 1
    assert await pool.fetchval("SELECT count(*) FROM scheduler_schedules WHERE source_name = 'after'") == 1


async def test_of_an_object_only_finalizers_and_status_are_ever_patched(run: Run, api: ApiServer) -> None:
    async with run() as operator:
        await operator.ready()
        job = api.apply(Kind.SCHEDULED_JOB, "a", scheduled_job(runAt=FUTURE))
        periodic = api.apply(Kind.PERIODIC_JOB, "b", periodic_job())
        pool = api.apply(Kind.WORKER_POOL, "c", worker_pool())
        await until(lambda: api.condition(job, "Ready") and api.condition(periodic, "Ready"))
        await until(lambda: api.condition(pool, "DatabaseReachable"))
        api.apply(Kind.SCHEDULED_JOB, "a", scheduled_job(runAt=FUTURE, suspend=True))
        await until(lambda: api.condition(job, "Suspended") == "True")
        for path in (job, periodic):
            api.delete(path)
        await until(lambda: not {job, periodic} & api.objects.keys())

    assert [write for write in api.writes if not is_allowed(write)] == []
    assert {write.method for write in api.writes} == {"PATCH", "POST", "PUT"}
    patched = {write.path for write in api.writes if write.method == "PATCH"}
    assert patched == {job, periodic, *(f"{path}/status" for path in (job, periodic, pool))}
    assert {write.path for write in api.writes if write.method == "PUT"} == {LEASE_PATH}


async def test_operator_stands_by_while_another_holds_the_lease_and_takes_over_when_it_is_given_back(
    run: Run, api: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leadership, "LOOK_SECONDS", 0.05)
    api.hand_lease_to("somebody")
    path = api.apply(Kind.SCHEDULED_JOB, "a", scheduled_job(runAt=FUTURE))
    async with run() as operator:
        await operator.ready()
        assert await _metric(operator, "leader") == 0
        assert not api.writes

        api.hand_lease_to("")

        await until(partial(_leads, operator))
        await until(lambda: api.condition(path, "Ready") == "True")
    assert api.objects[LEASE_PATH]["spec"]["holderIdentity"] == ""


async def test_operator_whose_lease_another_one_takes_ends_at_once(
    run: Run, api: ApiServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(leadership, "LOOK_SECONDS", 0.05)
    async with run() as operator:
        await operator.ready()
        api.hand_lease_to("somebody")

        await until(operator.task.done)

    assert operator.lost
    assert caplog.text.count("PGS-048 the Lease is held by somebody") == 1


async def test_operator_of_another_cluster_under_the_same_name_does_not_start(run: Run) -> None:
    async with run() as first, ApiServer(identity="cluster-2").serving() as elsewhere:
        await first.ready()
        async with run(api=elsewhere) as second:
            await until(second.task.done)

            assert isinstance(second.task.exception(), NameTaken)
        assert not [write for write in elsewhere.writes if write.path != LEASE_PATH]


async def respond(status: int, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.json_response({"code": status}, status=status, headers=headers)


async def hang(_: web.Request) -> web.Response:
    await asyncio.Event().wait()
    raise AssertionError("nobody waits for ever")


async def reset(request: web.Request) -> web.Response:
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


FAULTS: dict[str, Fault] = {
    "409": lambda _: respond(409),
    "410": lambda _: respond(410),
    "429": lambda _: respond(429, {"Retry-After": "1"}),
    "500": lambda _: respond(500),
    "hang": hang,
    "reset": reset,
}


@pytest.mark.parametrize("name", FAULTS)
async def test_what_was_asked_for_during_a_fault_of_the_api_server_is_done_after_it(
    run: Run, api: ApiServer, monkeypatch: pytest.MonkeyPatch, name: str, pool: asyncpg.Pool[asyncpg.Record]
) -> None:
    monkeypatch.setattr(kube, "REQUEST_TIMEOUT_SECONDS", 0.2)
    met: list[str] = []

    async def fault(request: web.Request) -> web.StreamResponse | None:
        if not request.path.startswith(f"{OURS}/namespaces/") or "watch" in request.query:
            return None
        met.append(request.method)
        return await FAULTS[name](request)

    async with run() as operator:
        await operator.ready()
        edited = api.apply(Kind.SCHEDULED_JOB, "edited", scheduled_job(runAt=FUTURE))
        await until(lambda: api.condition(edited, "Ready") == "True")
        api.fault = fault
        api.apply(Kind.SCHEDULED_JOB, "edited", scheduled_job(runAt=FUTURE, suspend=True))
        made = api.apply(Kind.SCHEDULED_JOB, "made", scheduled_job(runAt=FUTURE))
        await until(lambda: len(met) >= 4)
        assert (await operator.get("livez")) == (200, "ok")
        api.fault = None

        await until(lambda: api.condition(made, "Ready") == api.condition(edited, "Suspended") == "True")
        written = len([w for w in api.writes if w.path == f"{made}/status" and w.status == 200])

    rows = await pool.fetch("SELECT source_name, suspended FROM scheduled_jobs ORDER BY 1")
    assert [tuple(row) for row in rows] == [("edited", True), ("made", False)]
    assert written == 1


@pytest.mark.parametrize("at_start", [True, False], ids=["from-the-start", "later"])
async def test_without_its_database_an_operator_is_live_and_not_ready_and_makes_up_for_it(
    run: Run, api: ApiServer, dsn: str, *, at_start: bool
) -> None:
    async with Proxy.to(dsn) as proxy:
        if at_start:
            proxy.lead_to(NOWHERE)
        async with run(dsn=proxy.dsn) as operator:
            if not at_start:
                await operator.ready()
                proxy.lead_to(NOWHERE)
            path = api.apply(Kind.SCHEDULED_JOB, "a", scheduled_job(runAt=FUTURE))
            await until(partial(operator.says, "readyz", (503, "database")))
            assert await operator.get("livez") == (200, "ok")

            proxy.lead_to(dsn)

            await operator.ready()
            await until(lambda: api.condition(path, "Ready") == "True")


async def test_operator_that_is_not_to_migrate_waits_for_the_tables_and_leaves_the_lease_to_others(
    run: Run, api: ApiServer, new_database: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loops, "backoff_seconds", lambda _: 0.05)
    dsn = new_database(template=EMPTY)
    lacking = f"schema 0 < {migrator.head_version()}: {len(migrator.migrations())} migrations are pending"
    async with run(dsn=dsn, migrate=False) as operator:
        await until(partial(operator.says, "readyz", (503, lacking)))
        assert await operator.get("livez") == (200, "ok")
        assert not api.writes
        async with Control(dsn) as somebody:
            assert await somebody.pending_migrations()

            await somebody.migrate()

        await operator.ready()


@pytest.mark.parametrize("is_shown", [False, True])
async def test_text_of_an_error_is_in_a_status_only_where_that_was_asked_for(
    run: Run, api: ApiServer, pool: asyncpg.Pool[asyncpg.Record], *, is_shown: bool
) -> None:
    path = api.apply(Kind.SCHEDULED_JOB, "a", scheduled_job(runAt=FUTURE))
    async with run(status_error_text=is_shown) as operator:
        await operator.ready()
        await until(lambda: api.condition(path, "Ready") == "True")
        await pool.execute(_FAILED_JOB)
        await until(lambda: api.condition(path, "Failed") == "True")

    shown = api.objects[path]["status"]["lastError"]
    assert shown.pop("time")
    assert shown == {"type": "KeyError", "code": "PGS-066"} | ({"text": "canary 4111"} if is_shown else {})
    assert ("canary" in repr(api.writes)) is is_shown


async def test_operator_serves_crds_that_are_older_and_tells_of_them(run: Run, api: ApiServer) -> None:
    del api.objects[crd_path(Kind.PERIODIC_JOB.crd_name)]["metadata"]["annotations"]
    async with run() as operator:
        await operator.ready()
        path = api.apply(Kind.SCHEDULED_JOB, "a", scheduled_job(runAt=FUTURE))

        await until(lambda: api.condition(path, "Ready") == "True")
        await until(lambda: [one.body["reason"] for one in api.writes if one.method == "POST"] == ["CRDsOutdated"])
        assert await _metric(operator, "crds_outdated") == 1


async def test_watch_that_is_told_410_lists_anew(run: Run, api: ApiServer) -> None:
    async with run() as operator:
        await operator.ready()
        api.end_watches({"type": "ERROR", "object": {"code": 410}})
        path = api.apply(Kind.SCHEDULED_JOB, "a", scheduled_job(runAt=FUTURE))

        await until(lambda: api.condition(path, "Ready") == "True")


async def test_no_row_is_written_before_the_clusters_name_is_ours(
    run: Run, api: ApiServer, pool: asyncpg.Pool[asyncpg.Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "TABLES_SECONDS", 0)
    path = api.apply(Kind.SCHEDULED_JOB, "a", scheduled_job(runAt=FUTURE))
    seen: list[str] = []

    async def fault(request: web.Request) -> web.StreamResponse | None:
        seen.append(request.path)
        return await respond(500) if request.path.endswith("/kube-system") else None

    api.fault = fault
    async with run() as operator:
        await until(lambda: seen.count(path) >= 2, timeout=30)
        assert await operator.get("readyz") == (503, "tables")
        assert await pool.fetchval("SELECT count(*) FROM scheduled_jobs") == 0
        api.fault = None

        await until(lambda: api.condition(path, "Ready") == "True", timeout=30)


async def test_limits_hold_before_the_first_object_is_read(
    run: Run, api: ApiServer, pool: asyncpg.Pool[asyncpg.Record]
) -> None:
    await pool.execute("SELECT scheduler_enqueue('t', tenant => 'billing')")
    path = api.apply(Kind.SCHEDULED_JOB, "a", scheduled_job(runAt=FUTURE))
    async with run(tenant_limits={"*": {"maxPending": 1}}):
        await until(lambda: api.condition(path, "Ready") == "False")

    assert await pool.fetchval("SELECT count(*) FROM scheduled_jobs") == 1


async def test_operator_starts_and_stops_within_two_seconds(run: Run) -> None:
    async with run() as warm:
        await warm.ready()
    began_at = time.process_time()
    async with run() as operator:
        await operator.ready()
        stopping_at = time.monotonic()
        operator.task.cancel()
        await asyncio.wait({operator.task})
        stopped_in = time.monotonic() - stopping_at

    assert stopped_in < 2
    assert time.process_time() - began_at < 2


async def _metric(operator: Running, name: str) -> float:
    _, text = await operator.get("metrics")
    (value,) = re.findall(rf"^pgscheduler_operator_{name} (\S+)$", text, re.MULTILINE)
    return float(value)


async def _leads(operator: Running) -> bool:
    return await _metric(operator, "leader") == 1


async def test_database_that_proves_no_name_is_refused_unless_that_is_allowed(run: Run) -> None:
    anybody = "postgresql://app@0.0.0.0:1/app?sslmode=disable"

    async with run(dsn=anybody) as operator:
        with pytest.raises(InvalidDsn, match="sslmode=disable"):
            await operator.task

    async with run(dsn=anybody, allow_insecure=True) as operator:
        await until(partial(operator.says, "readyz", (503, "database")))
