"""What deploy/workers gives: pods that end in order, under restricted Pod Security, whose settings are real ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from pg_scheduler import __version__
from pg_scheduler.cli.worker import worker
from pg_scheduler_operator.errors import InvalidSpec
from pg_scheduler_operator.resources import WorkerPoolSpec, read

FILE = Path(__file__).parents[2] / "deploy" / "workers" / "workers.yaml"
READ_BY_THE_LIBRARY = {
    *("PGSCHEDULER_POOL", "PGSCHEDULER_POD_NAME", "PGSCHEDULER_POD_UID"),
    *("PGSCHEDULER_POD_NAMESPACE", "PGSCHEDULER_NODE_NAME"),
}
DEPLOYMENT, POOL = yaml.safe_load_all(FILE.read_text())
POD: dict[str, Any] = DEPLOYMENT["spec"]["template"]["spec"]
(CONTAINER,) = POD["containers"]
VALUES = {variable["name"]: variable.get("value") for variable in CONTAINER["env"]}


def test_workers_pod_is_restricted_and_has_no_token() -> None:
    assert POD["automountServiceAccountToken"] is False
    assert POD["securityContext"]["runAsNonRoot"] is True
    assert POD["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert CONTAINER["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_every_variable_is_one_that_is_read() -> None:
    options = {option.envvar for option in worker.params if option.envvar}

    assert VALUES.keys() <= options | READ_BY_THE_LIBRARY


def test_the_grace_is_longer_than_the_shutdown() -> None:
    assert POD["terminationGracePeriodSeconds"] == int(VALUES["PGSCHEDULER_SHUTDOWN_TIMEOUT"]) + 30 == 330


def test_probes_go_where_the_worker_listens() -> None:
    (port,) = CONTAINER["ports"]

    assert VALUES["PGSCHEDULER_HTTP"] == f"0.0.0.0:{port['containerPort']}"
    for probe, page in (("startupProbe", "livez"), ("livenessProbe", "livez"), ("readinessProbe", "readyz")):
        assert CONTAINER[probe]["httpGet"] == {"path": f"/{page}", "port": port["name"]}


def test_the_pool_is_that_of_the_workers_and_may_scale_them() -> None:
    metadata = {**POOL["metadata"], "namespace": "n", "uid": "u", "generation": 1}
    spec = read(WorkerPoolSpec, {**POOL, "metadata": metadata}, cluster="c").spec

    assert not isinstance(spec, InvalidSpec)
    assert spec.target_ref.name == DEPLOYMENT["metadata"]["name"]
    assert VALUES["PGSCHEDULER_POOL"] == POOL["metadata"]["name"]
    assert "replicas" not in DEPLOYMENT["spec"]
    assert spec.drain.timeout_seconds < POD["terminationGracePeriodSeconds"]


def test_the_image_is_that_of_this_release() -> None:
    assert CONTAINER["image"] == f"pgscheduler:{__version__}"
