"""The Kubernetes gateway against a server that answers as told and records what it was asked."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from kubernetes_asyncio import client

from pg_scheduler_operator.errors import (
    KubernetesError,
    KubernetesNotConfigured,
    KubernetesUnreachable,
    ObjectChanged,
    ObjectGone,
)
from pg_scheduler_operator.gateway.kube import KubeResources, _proxy, api_of, connect
from pg_scheduler_operator.metrics import Metrics
from pg_scheduler_operator.reconcile.common import held
from pg_scheduler_operator.resources import (
    CRD_REVISION,
    FINALIZER,
    RESUME_REQUESTED_AT,
    Key,
    Kind,
    ScheduledJobSpec,
    read,
)
from pg_scheduler_operator.status import Notice, Reason
from support.operator_world import body, scheduled_job

if TYPE_CHECKING:
    from pathlib import Path

    from support.api_server import Served

BODY = body(Kind.SCHEDULED_JOB, scheduled_job())
META = read(ScheduledJobSpec, BODY, cluster="default").meta
JOB_PATH = "/apis/pgscheduler.io/v1alpha1/namespaces/billing/scheduledjobs/x"


async def test_finalizers_are_the_only_metadata_written_and_only_to_the_version_read(server: Served) -> None:
    told, api = server

    await KubeResources(api).set_finalizers(META, ["theirs", FINALIZER])

    ((method, path, kind, content),) = told.requests
    assert (method, path.partition("?")[0], kind) == ("PATCH", JOB_PATH, "application/merge-patch+json")
    assert content == {"metadata": {"finalizers": ["theirs", FINALIZER], "resourceVersion": "1"}}
    assert "fieldManager=pgscheduler-operator" in path


@pytest.mark.parametrize(
    ("live", "kind"), [({}, "application/merge-patch+json"), ({"a": 1}, "application/json-patch+json")]
)
async def test_status_is_written_to_its_subresource(server: Served, live: dict[str, Any], kind: str) -> None:
    told, api = server

    await KubeResources(api).write_status(META, live, {"a": 2})

    ((_, path, content_type, content),) = told.requests
    assert path.startswith(f"{JOB_PATH}/status?")
    assert content_type == kind
    assert content == ([{"op": "add", "path": "/status/a", "value": 2}] if live else {"status": {"a": 2}})


async def test_object_is_deleted_by_its_uid_and_one_that_is_gone_is_no_error(server: Served) -> None:
    told, api = server
    told.answer(200)
    told.answer(404)

    await KubeResources(api).remove(META)
    await KubeResources(api).remove(META)

    (method, path, _, content), _ = told.requests
    assert (method, path) == ("DELETE", JOB_PATH)
    assert content["preconditions"] == {"uid": "u1"}


async def test_object_of_another_uid_is_not_deleted(server: Served) -> None:
    told, api = server
    told.answer(409)

    with pytest.raises(ObjectChanged):
        await KubeResources(api).remove(META)


async def test_object_that_is_not_there_is_none(server: Served) -> None:
    told, api = server
    told.answer(404)

    assert await KubeResources(api).get(Key(kind=Kind.SCHEDULED_JOB, namespace="billing", name="x")) is None


@pytest.mark.parametrize(
    ("status", "error"),
    [(404, ObjectGone), (409, ObjectChanged), (422, ObjectChanged), (403, KubernetesError), (500, KubernetesError)],
)
async def test_answer_becomes_an_error_that_quotes_no_body(
    server: Served, status: int, error: type[KubernetesError]
) -> None:
    told, api = server
    told.answer(status, {"message": "c4n4ry"})

    with pytest.raises(error) as caught:
        await KubeResources(api).write_status(META, {}, {"a": "c4n4ry"})

    assert type(caught.value) is error
    assert caught.value.status == status
    assert "c4n4ry" not in str(caught.value)


async def test_server_that_asks_to_wait_says_how_long(server: Served) -> None:
    told, api = server
    told.answer(429, **{"Retry-After": "7"})

    with pytest.raises(KubernetesError) as caught:
        await KubeResources(api).get(META.key)

    assert caught.value.retry_after == 7


async def test_server_that_is_not_there_is_unreachable() -> None:
    configuration = client.Configuration()
    configuration.host = "http://127.0.0.1:1"
    async with api_of(configuration) as api:
        with pytest.raises(KubernetesUnreachable):
            await KubeResources(api).get(META.key)


async def test_each_request_carries_the_token_of_its_time(server: Served) -> None:
    told, api = server

    await KubeResources(api).get(META.key)
    for token in ("Bearer one", "Bearer two"):
        told.configuration.api_key["BearerToken"] = token
        await KubeResources(api).get(META.key)

    assert told.authorizations == [None, "Bearer one", "Bearer two"]


@pytest.mark.parametrize(
    ("configured", "exceptions", "proxy"),
    [
        ("http://own:1", "", "http://own:1"),
        (None, "", "http://everybodys:2"),
        (None, "10.96.0.1", None),
        ("http://own:1", "10.96.0.1", "http://own:1"),
    ],
)
def test_proxy_is_the_configurations_else_the_environments(
    monkeypatch: pytest.MonkeyPatch, configured: str | None, exceptions: str, proxy: str | None
) -> None:
    monkeypatch.setenv("https_proxy", "http://everybodys:2")
    monkeypatch.setenv("no_proxy", exceptions)
    configuration = client.Configuration()
    configuration.host, configuration.proxy = "https://10.96.0.1:443", configured

    assert _proxy(configuration) == proxy


def page(*uids: str, more: str = "") -> dict[str, Any]:
    return {"metadata": {"continue": more}, "items": [{"metadata": {"uid": uid}} for uid in uids] or None}


async def test_uids_are_read_page_by_page_to_the_end(server: Served) -> None:
    told, api = server
    for answer in (page("a", "b", more="next/="), page("c"), page("d"), page()):
        told.answer(200, answer)

    assert await KubeResources(api).uids() == {"a", "b", "c", "d"}

    paths = [path for _, path, _, _ in told.requests]
    assert paths[0] == "/apis/pgscheduler.io/v1alpha1/periodicjobs?limit=500"
    assert paths[1] == "/apis/pgscheduler.io/v1alpha1/periodicjobs?limit=500&continue=next/%3D"
    assert len(paths) == 4


async def test_bodies_are_read_page_by_page_to_the_end(server: Served) -> None:
    told, api = server
    for answer in (page("a", "b", more="next"), page("c")):
        told.answer(200, answer)

    pages = [bodies async for bodies in KubeResources(api).pages(Kind.PERIODIC_JOB)]

    assert [[item["metadata"]["uid"] for item in bodies] for bodies in pages] == [["a", "b"], ["c"]]
    assert [path for _, path, _, _ in told.requests] == [
        "/apis/pgscheduler.io/v1alpha1/periodicjobs?limit=500",
        "/apis/pgscheduler.io/v1alpha1/periodicjobs?limit=500&continue=next",
    ]


def changed(**metadata: Any) -> dict[str, Any]:
    """The object as a write has left it, in a new version."""
    return {**BODY, "metadata": {**BODY["metadata"], "resourceVersion": "2", **metadata}}


@pytest.mark.parametrize(
    ("written", "is_own"),
    [
        (changed(), True),
        (changed(labels={"a": "b"}), True),
        (changed(generation=2), False),
        (changed(deletionTimestamp="2026-11-24T12:00:00Z"), False),
        (changed(annotations={RESUME_REQUESTED_AT: "2026-11-24T12:00:00Z"}), False),
        (changed(finalizers=[]), False),
    ],
)
async def test_write_that_met_no_other_change_is_known_as_ours(
    server: Served, written: dict[str, Any], is_own: bool
) -> None:
    told, api = server
    resources = KubeResources(api)
    told.answer(200, written)

    await resources.write_status(META, {}, {"a": 2})

    assert resources.echoes.is_own(META.key, "2") is is_own
    assert not resources.echoes.is_own(META.key, "1")


async def test_finalizers_that_we_have_set_are_known_as_ours(server: Served) -> None:
    told, api = server
    resources = KubeResources(api)
    told.answer(200, changed(finalizers=["theirs", FINALIZER]))

    await resources.set_finalizers(META, ["theirs", FINALIZER])

    assert resources.echoes.is_own(META.key, "2")
    told.answer(404)
    await resources.get(META.key)
    assert not resources.echoes.is_own(META.key, "2")


async def test_both_writes_of_a_turn_are_known_as_ours_whichever_the_watch_tells_of_last(server: Served) -> None:
    told, api = server
    resources = KubeResources(api)
    unheld = replace(META, finalizers=())
    told.answer(200, changed(finalizers=[FINALIZER]))
    told.answer(200, changed(finalizers=[FINALIZER], resourceVersion="3"))
    told.answer(200, changed(finalizers=[FINALIZER], resourceVersion="4"))

    await resources.set_finalizers(unheld, [FINALIZER])
    await resources.write_status(held(unheld), {}, {"a": 2})
    assert [resources.echoes.is_own(META.key, version) for version in "1234"] == [False, True, True, False]

    await resources.write_status(META, {"a": 2}, {"a": 3})
    assert [resources.echoes.is_own(META.key, version) for version in "1234"] == [False, False, True, True]


async def test_uids_are_complete_or_an_error(server: Served) -> None:
    told, api = server
    told.answer(200, page("a", more="next"))
    told.answer(410)

    with pytest.raises(ObjectChanged):
        await KubeResources(api).uids()


async def test_only_the_namespaces_that_are_served_are_listed(server: Served) -> None:
    told, api = server
    for _ in range(6):
        told.answer(200, page())
    resources = KubeResources(api, namespaces=["a", "b"])

    await resources.uids()

    assert all("/namespaces/a/" in path or "/namespaces/b/" in path for _, path, _, _ in told.requests)
    assert (resources.serves("a"), resources.serves("c")) == (True, False)


async def test_event_is_told_once(server: Served) -> None:
    told, api = server
    told.answer(201)
    told.answer(409)
    notice = Notice(about=META, type="Warning", reason=Reason.UNKNOWN_TASK, note="x" * 2000, once="1")

    for _ in range(2):
        await KubeResources(api).tell(notice)

    (_, path, _, first), (_, _, _, second) = told.requests
    assert path.startswith("/apis/events.k8s.io/v1/namespaces/billing/events?")
    assert first["metadata"]["name"] == second["metadata"]["name"]
    assert len(first["note"]) == 1024
    assert first["regarding"]["uid"] == "u1"


async def test_event_that_is_invalid_is_an_error(server: Served) -> None:
    told, api = server
    told.answer(422)

    with pytest.raises(ObjectChanged):
        await KubeResources(api).tell(Notice(about=META, type="Normal", reason=Reason.SCALED_UP, note="", once="1"))


@pytest.mark.parametrize(
    ("groups", "served", "missing"),
    [
        ([], [], set(Kind)),
        (["pgscheduler.io"], ["ScheduledJob"], {Kind.PERIODIC_JOB, Kind.WORKER_POOL}),
        (["pgscheduler.io"], list(Kind), set()),
    ],
)
async def test_kinds_without_a_crd_are_known(
    server: Served, groups: list[str], served: list[str], missing: set[Kind]
) -> None:
    told, api = server
    told.answer(200, {"groups": [{"name": name} for name in groups]})
    told.answer(200, {"resources": [{"kind": kind} for kind in served]})

    assert set(await KubeResources(api).missing_kinds()) == missing


async def test_process_without_any_configuration_is_told_what_to_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)

    with pytest.raises(KubernetesNotConfigured, match="KUBECONFIG"):
        async with connect(Metrics()):
            pass


async def test_revision_of_a_crd_is_its_annotation_and_0_without_one(server: Served) -> None:
    told, api = server
    for metadata in ({"annotations": {CRD_REVISION: "12"}}, {}, {"annotations": {CRD_REVISION: "twelve"}}):
        told.answer(200, {"metadata": metadata})

    assert await KubeResources(api).crd_revisions() == {
        "periodicjobs.pgscheduler.io": 12,
        "scheduledjobs.pgscheduler.io": 0,
        "workerpools.pgscheduler.io": 0,
    }
    assert {path.rpartition("/")[0] for _, path, _, _ in told.requests} == {
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    }


async def test_revisions_are_not_known_without_the_right_to_read_them(server: Served) -> None:
    told, api = server
    told.answer(403)

    assert await KubeResources(api).crd_revisions() is None


async def test_revisions_that_cannot_be_read_are_an_error(server: Served) -> None:
    told, api = server
    told.answer(500)

    with pytest.raises(KubernetesError):
        await KubeResources(api).crd_revisions()
