from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

from pg_scheduler_operator.gateway.lease import KubeLease

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pg_scheduler_operator.gateway.kube import KubeApi

PATH = "/apis/coordination.k8s.io/v1/namespaces/ops/leases/operator"


class Api:
    """Keeps one object, as JSON would."""

    def __init__(self, body: Mapping[str, Any]) -> None:
        self.body = body
        self.paths: list[str] = []

    async def get(self, path: str) -> Mapping[str, Any]:
        self.paths.append(path)
        return self.body

    async def put(self, path: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        self.paths.append(path)
        self.body = json.loads(json.dumps(body))
        return self.body


def lease(api: Api) -> KubeLease:
    return KubeLease(cast("KubeApi", api), namespace="ops", name="operator", seconds=15.0)


async def test_lease_without_a_spec_is_nobodys() -> None:
    api = Api({"metadata": {"resourceVersion": "7", "labels": {"a": "b"}}})

    record = await lease(api).read()

    assert (record.holder, record.transitions, record.version) == ("", 0, "7")
    assert api.paths == [PATH]


async def test_write_names_the_version_that_was_read_and_keeps_the_metadata() -> None:
    api = Api({"metadata": {"resourceVersion": "7", "labels": {"a": "b"}}})
    at = datetime(2026, 11, 24, 12, 0, 0, 5, UTC)

    record = await lease(api).read()
    written = await lease(api).write(replace(record, holder="me", renewed_at=at, acquired_at=at, transitions=1))

    assert api.body["metadata"] == {"resourceVersion": "7", "labels": {"a": "b"}}
    assert api.body["spec"] == {
        "holderIdentity": "me",
        "leaseDurationSeconds": 15,
        "leaseTransitions": 1,
        "acquireTime": "2026-11-24T12:00:00.000005Z",
        "renewTime": "2026-11-24T12:00:00.000005Z",
    }
    assert (written.holder, written.renewed_at) == ("me", at)
