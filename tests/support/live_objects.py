"""Objects as an API server holds them: well and answered, but for what the test says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pg_scheduler_operator.resources import API_VERSION

if TYPE_CHECKING:
    from collections.abc import Mapping

    Body = dict[str, Any]

TASK = "reports.nightly"


def conditions(**told: tuple[bool | None, str] | tuple[bool | None, str, str]) -> list[Body]:
    """``Ready=(True, "Accepted")``, with a message as the third."""
    return [
        {
            "type": name,
            "status": {True: "True", False: "False", None: "Unknown"}[holds],
            "reason": reason,
            "message": message[0] if message else "",
            "lastTransitionTime": "2026-11-24T06:00:00Z",
        }
        for name, (holds, reason, *message) in told.items()
    ]


def pjob(
    name: str = "nightly",
    *,
    spec: Mapping[str, Any] | None = None,
    template: Mapping[str, Any] | None = None,
    **status: Any,
) -> Body:
    wanted = {"schedule": {"cron": ["0 2 * * *"]}, "jobTemplate": {"spec": {"task": TASK, **(template or {})}}}
    told = {"nextScheduleTimes": ["2026-11-25T02:00:00+00:00"]}
    return _object("PeriodicJob", name, {**wanted, **(spec or {})}, {**told, **status})


def sjob(
    name: str = "once",
    *,
    spec: Mapping[str, Any] | None = None,
    template: Mapping[str, Any] | None = None,
    **status: Any,
) -> Body:
    wanted = {"template": {"spec": {"task": TASK, **(template or {})}}}
    return _object(
        "ScheduledJob",
        name,
        spec if spec and "periodicJobRef" in spec else {**wanted, **(spec or {})},
        {
            "jobID": "sj-7f0c",
            "state": "Pending",
            "attempt": 0,
            **status,
        },
    )


def pool(name: str = "reports", *, spec: Mapping[str, Any] | None = None, **status: Any) -> Body:
    """Four of twenty replicas, with slots left."""
    wanted = {
        "targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "report-workers"},
        "autoscaling": {"mode": "Operator", "maxReplicas": 20},
    }
    told = {
        "replicas": 4,
        "readyReplicas": 4,
        "desiredReplicas": 4,
        "slotsPerReplica": 25,
        "demand": {"due": 0, "running": 61, "orphaned": 0},
        "tasks": [TASK],
        "conditions": conditions(DatabaseReachable=(True, "DatabaseAnswers"), ScalingActive=(True, "Scaling")),
    }
    return _object("WorkerPool", name, {**wanted, **(spec or {})}, {**told, **status})


def lease(renewed: str = "2026-11-24T11:59:58.000000Z", *, holder: str = "operator-0") -> Body:
    spec = {"holderIdentity": holder, "renewTime": renewed, "leaseDurationSeconds": 15}
    return {"metadata": {"name": "pgscheduler-operator", "namespace": "pgscheduler"}, "spec": spec}


def _object(kind: str, name: str, spec: Mapping[str, Any], status: Mapping[str, Any]) -> Body:
    return {
        "apiVersion": API_VERSION,
        "kind": kind,
        "metadata": {"name": name, "namespace": "billing", "generation": 3, "uid": f"uid-of-{name}"},
        "spec": dict(spec),
        "status": {"observedGeneration": 3, **status},
    }
