"""The image run at its strictest: any uid, no capability, nothing to write to; and a user's image on top of it."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from os import sysconf
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any

import pytest

from cluster.image import USERS_IMAGE
from support.deployments import database_secret
from support.objects import scheduled_job
from support.paths import ROOT
from support.releases import NEWEST_HELM, Release, program
from support.sizes import sized
from support.tenants import Tenant

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cluster.cluster import Cluster, Manifest
    from cluster.postgres import Databases
    from cluster.progress import Progress

_UID, _GID = 12345, 0  # as OpenShift does it
_READY_SECONDS = sized(60, full=5)
"""From the container's start, with PostgreSQL there; in full on a machine of its own."""
_OUR_MEGABYTES = 75
"""What the project adds to its base; what makes it more should be worth it."""
_PROBE = Path(__file__).parents[1] / "support" / "inside_image.py"
_REPOSITORY, _, _TAG = USERS_IMAGE.rpartition(":")
_VALUES: dict[str, Any] = {
    "database": {"existingSecret": "pgscheduler-database", "allowInsecure": True},
    "podSecurityContext": {
        "runAsNonRoot": True,
        "runAsUser": _UID,
        "runAsGroup": _GID,
        "seccompProfile": {"type": "RuntimeDefault"},
    },
    "worker": {
        "apps": ["billing.tasks"],
        "image": {"repository": _REPOSITORY, "tag": _TAG},
        "pools": {"default": {"spec": {"autoscaling": {"minReplicas": 1, "maxReplicas": 1}}}},
        "shutdownSeconds": 3,
    },
}


@pytest.fixture(scope="module")
def tenant(cluster: Cluster, databases: Databases) -> Iterator[Tenant]:
    """A namespace under restricted Pod Security with a release whose workers have a user's image."""
    with cluster.namespace() as namespace, databases.fresh() as database:
        tenant = Tenant(cluster, namespace, database)
        tenant.apply(database_secret(database.pod_dsn))
        release = Release(cluster, namespace, program(NEWEST_HELM))
        release.install(**_VALUES)
        yield tenant
        release.uninstall()
        cluster.kubectl("delete", "--filename", str(ROOT / "crds"), "--ignore-not-found")


@pytest.fixture(scope="module")
def seen(tenant: Tenant) -> dict[str, Any]:
    """What a process sees in the operator's pod."""
    exec_python = ("exec", "--stdin", "deployment/shop-pgscheduler-operator", "--", "python", "-")
    told = tenant.cluster.kubectl(
        "--namespace", tenant.name, *exec_python, stdin=_PROBE.read_text(), timeout_seconds=180
    )
    answer: dict[str, Any] = json.loads(told)
    return answer


def test_any_user_without_capabilities_or_a_place_to_write_is_ready_soon(
    tenant: Tenant, seen: dict[str, Any], progress: Progress
) -> None:
    pods = _pods(tenant)
    waits = {pod["metadata"]["labels"]["app.kubernetes.io/component"]: _seconds_to_ready(pod) for pod in pods}

    for pod, (component, seconds) in zip(pods, waits.items(), strict=True):
        told, used = _told_until_ready(tenant, pod), _used(tenant, pod)
        progress.say(f"{component}: {told}ready {seconds:.0f} s after its container's start; until now {used}")
    assert sorted(waits) == ["operator", "worker"]
    assert max(waits.values()) <= _READY_SECONDS
    assert [pod["status"]["containerStatuses"][0]["restartCount"] for pod in pods] == [0, 0]
    assert seen["user"] == [_UID, _GID]
    assert seen["capabilities"] == 0
    assert not seen["gains_privileges"]
    assert seen["writable"] == ["/tmp"]  # noqa: S108 - the chart's volume


def test_list_of_parts_has_every_package_with_its_licence(seen: dict[str, Any], progress: Progress) -> None:
    parts = {part["name"]: part for part in seen["parts_list"]["components"]}

    sizes = {name: round(size / 1e6) for name, size in seen["bytes"].items()}
    packages = ", ".join(f"{name} {version}" for name, version in sorted(seen["packages"].items()))
    progress.say(f"image: {sizes['base']} MB of its base and {sizes['ours']} MB of ours, unpacked: {packages}")
    assert {name: part["version"] for name, part in parts.items()} == seen["packages"]
    assert [name for name, part in parts.items() if not part.get("licenses")] == []


def test_image_has_what_its_commands_need_and_no_more(seen: dict[str, Any]) -> None:
    assert not seen["has_pip"]
    assert [name for name in seen["programs"] if not name.startswith("python")] == [
        "kubectl-pgscheduler",
        "pgscheduler",
    ]
    assert seen["left_over"] == []
    assert seen["compiled_at_start"] == []
    assert seen["bytes"]["ours"] <= _OUR_MEGABYTES * 1e6
    assert {name for name, exit_code in seen["helps"].items() if exit_code != 0} == set()
    assert {"operator", "worker", "migrate", "chart"} <= seen["helps"].keys()


def test_image_has_no_hook_for_debuggers_and_profilers(seen: dict[str, Any]) -> None:
    assert seen["debug_hooks"] == []


def test_workers_of_a_users_image_run_its_task(tenant: Tenant) -> None:
    spec = {"task": "billing.send_invoice", "kwargs": {"customer": "acme", "cents": 1999}, "resultPolicy": "Status"}

    tenant.apply(scheduled_job("invoice", {"spec": spec}))

    tenant.wait_for("sjob/invoice", "condition=Complete")
    assert tenant.get("sjob/invoice")["status"]["result"] == "acme owes 19.99"


def _pods(tenant: Tenant) -> list[Manifest]:
    pods: list[Manifest] = json.loads(tenant.kubectl("get", "pods", "--output=json"))["items"]
    return pods


def _seconds_to_ready(pod: Manifest) -> float:
    """In whole seconds, as the API server tells both."""
    return (_ready_at(pod) - _started_at(pod)).total_seconds()


def _told_until_ready(tenant: Tenant, pod: Manifest) -> str:
    """What the process has logged on its way, and when: the shares of imports, connections, and probes."""
    records = map(json.loads, tenant.kubectl("logs", pod["metadata"]["name"]).splitlines())
    told = [(datetime.fromisoformat(record["time"]), shorten(record["message"], 50)) for record in records]
    began, ends = _started_at(pod), _ready_at(pod) + timedelta(seconds=1)
    return "".join(f"{(at - began).total_seconds():.1f} s {message!r}, " for at, message in told if at < ends)


def _used(tenant: Tenant, pod: Manifest) -> str:
    """What its process has computed and holds: a busy machine makes a start long, but not these larger."""
    stat = tenant.kubectl("exec", pod["metadata"]["name"], "--", "cat", "/proc/1/stat").rpartition(")")[2].split()
    ticks, pages = int(stat[11]) + int(stat[12]), int(stat[21])
    return f"{ticks / sysconf('SC_CLK_TCK'):.1f} s of a processor, {pages * sysconf('SC_PAGE_SIZE') / 1e6:.0f} MB"


def _started_at(pod: Manifest) -> datetime:
    return datetime.fromisoformat(pod["status"]["containerStatuses"][0]["state"]["running"]["startedAt"])


def _ready_at(pod: Manifest) -> datetime:
    (ready,) = (one for one in pod["status"]["conditions"] if one["type"] == "Ready")
    return datetime.fromisoformat(ready["lastTransitionTime"])
