"""What the chart's hooks do, against an API server of the test's own; e2e/chart runs them in pods."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from kubernetes_asyncio.config import kube_config

from pg_scheduler_operator import leadership
from pg_scheduler_operator.chart import trial
from pg_scheduler_operator.chart.crds import apply_all
from pg_scheduler_operator.chart.release import release_objects
from pg_scheduler_operator.chart.trial import run_trial
from pg_scheduler_operator.errors import KubernetesError, TrialFailed, WaitTooShort
from pg_scheduler_operator.gateway.kube import connect
from pg_scheduler_operator.resources import FINALIZER, Kind
from support.kube_server import LEASE_PATH, OURS, ApiServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from pg_scheduler_operator.gateway.kube import KubeApi
    from support.api_server import Served

COMPLETE = {"type": "Complete", "status": "True", "reason": "Completed", "message": ""}
FAILED = {"type": "Failed", "status": "True", "reason": "UnknownTask", "message": "no worker knows it"}
NOTHING: dict[str, Any] = {}
WAITS = {"type": "Complete", "status": "False", "reason": "Pending", "message": "due"}


@pytest.fixture
async def cluster() -> AsyncIterator[ApiServer]:
    async with ApiServer().serving() as server:
        yield server


@pytest.fixture
async def api(cluster: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[KubeApi]:
    monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(cluster.kubeconfig(tmp_path)))
    monkeypatch.setattr(leadership, "HOLD_SECONDS", 0.01)
    async with connect() as api:
        yield api


def held(cluster: ApiServer, kind: Kind, name: str, *more: str) -> str:
    path = cluster.apply(kind, name, {})
    cluster.objects[path]["metadata"]["finalizers"] = [*more, FINALIZER]
    return path


async def release(api: KubeApi) -> int:
    return await release_objects(api, namespace="ops", lease="pgscheduler-operator", watched=())


async def test_release_takes_our_finalizer_alone_and_off_every_object(cluster: ApiServer, api: KubeApi) -> None:
    paths = [held(cluster, Kind.PERIODIC_JOB, f"p{n}") for n in range(30)]
    paths += [held(cluster, Kind.SCHEDULED_JOB, f"s{n}", "other.example/x") for n in range(30)]

    assert await release(api) == 60

    assert {tuple(cluster.objects[path]["metadata"]["finalizers"]) for path in paths} == {(), ("other.example/x",)}
    assert cluster.objects[LEASE_PATH]["spec"]["holderIdentity"] == "uninstall"


async def test_release_takes_the_lease_from_who_holds_it_before_it_touches_an_object(
    cluster: ApiServer, api: KubeApi
) -> None:
    cluster.hand_lease_to("operator-0")
    held(cluster, Kind.PERIODIC_JOB, "report")

    await release(api)

    assert [write.path == LEASE_PATH for write in cluster.writes[:2]] == [True, False]


async def test_release_reads_an_object_again_that_has_changed_meanwhile(cluster: ApiServer, api: KubeApi) -> None:
    path = held(cluster, Kind.PERIODIC_JOB, "report")
    conflicts = [409]

    async def once(request: web.Request) -> web.Response | None:
        refused = request.method == "PATCH" and conflicts.pop() if conflicts else False
        return web.json_response({}, status=409) if refused else None

    cluster.fault = once

    assert await release(api) == 1  # not two: it was let go once

    assert cluster.objects[path]["metadata"]["finalizers"] == []


async def test_release_of_a_kind_that_is_gone_is_no_error(cluster: ApiServer, api: KubeApi) -> None:
    held(cluster, Kind.SCHEDULED_JOB, "hello")

    async def no_periodic_jobs(request: web.Request) -> web.Response | None:
        return web.json_response({}, status=404) if request.path == f"{OURS}/periodicjobs" else None

    cluster.fault = no_periodic_jobs

    assert await release(api) == 1


async def test_release_of_an_installation_that_failed_before_it_had_a_lease_has_nothing_to_do(
    cluster: ApiServer, api: KubeApi
) -> None:
    del cluster.objects[LEASE_PATH]
    cluster.apply(Kind.PERIODIC_JOB, "never-held", {})

    assert await release(api) == 0

    assert not cluster.writes


async def test_release_without_its_lease_touches_nothing(cluster: ApiServer, api: KubeApi) -> None:
    path = held(cluster, Kind.PERIODIC_JOB, "report")
    del cluster.objects[LEASE_PATH]

    with pytest.raises(KubernetesError):
        await release(api)

    assert cluster.objects[path]["metadata"]["finalizers"] == [FINALIZER]
    assert cluster.writes == []


def job(*conditions: dict[str, Any]) -> dict[str, Any]:
    return {"metadata": {"name": "t", "uid": "u"}, "status": {"conditions": list(conditions)}}


async def tried(api: KubeApi, *, timeout_seconds: float = 5) -> str:
    return await run_trial(api, namespace="shop", name="t", timeout_seconds=timeout_seconds)


@pytest.fixture
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "LOOK_SECONDS", 0)


@pytest.mark.usefixtures("_at_once")
async def test_trial_removes_the_last_one_runs_a_job_and_leaves_nothing(server: Served) -> None:
    told, api = server
    of_the_last = [(200, job(COMPLETE)), (200, NOTHING), (404, NOTHING)]
    of_this = [(201, NOTHING), (200, job(WAITS)), (200, job(COMPLETE))]
    for status, body in (*of_the_last, *of_this, *of_the_last):
        told.answer(status, body)

    assert "pgscheduler.ping" in await tried(api)

    assert [method for method, *_ in told.requests] == [
        *("GET", "DELETE", "GET"),
        *("POST", "GET", "GET"),
        *("GET", "DELETE", "GET"),
    ]
    assert told.requests[3][3]["spec"]["template"]["spec"] == {"task": "pgscheduler.ping"}


@pytest.mark.usefixtures("_at_once")
async def test_trial_that_fails_says_what_its_conditions_say(server: Served) -> None:
    told, api = server
    for status, body in ((404, NOTHING), (201, NOTHING), (200, job(FAILED))):
        told.answer(status, body)

    with pytest.raises(TrialFailed, match="UnknownTask: no worker knows it"):
        await tried(api)


@pytest.mark.usefixtures("_at_once")
async def test_trial_that_nobody_looks_at_says_so(server: Served) -> None:
    told, api = server
    for status, body in ((404, NOTHING), (201, NOTHING)):
        told.answer(status, body)

    with pytest.raises(WaitTooShort, match="no operator has looked at it"):
        await tried(api, timeout_seconds=0.1)


@pytest.mark.usefixtures("_at_once")
async def test_trial_says_what_keeps_the_last_one_that_does_not_go(
    cluster: ApiServer, api: KubeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nobody_lets_go(request: web.Request) -> web.Response | None:
        return web.json_response({}) if request.method == "DELETE" else None

    held(cluster, Kind.SCHEDULED_JOB, "t")
    cluster.fault = nobody_lets_go
    monkeypatch.setattr(trial, "REMOVAL_SECONDS", 0.2)

    with pytest.raises(WaitTooShort, match=rf"billing/t is not gone .*{FINALIZER}.*operator"):
        await run_trial(api, namespace="billing", name="t", timeout_seconds=5)

    assert [write.method for write in cluster.writes] == ["DELETE"]  # nothing was made beside it


async def test_crds_are_applied_over_whoever_wrote_them(server: Served) -> None:
    told, api = server

    assert [name async for name in apply_all(api)] == [
        f"{kind}.pgscheduler.io" for kind in ("periodicjobs", "scheduledjobs", "workerpools")
    ]

    for method, path, content_type, body in told.requests:
        assert (method, content_type) == ("PATCH", "application/apply-patch+yaml")
        assert path.endswith("?fieldManager=pgscheduler-operator&force=true")
        assert body["kind"] == "CustomResourceDefinition"
