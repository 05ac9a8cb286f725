"""Custom resources as tests write them: valid but for what the test says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cluster.cluster import Manifest

API_VERSION = "pgscheduler.io/v1alpha1"
FAR_AWAY = "2999-01-01T00:00:00Z"
AT_ONCE = {"stabilizationSeconds": 0, "maxReplicasPerMinute": 1000, "zeroAfterIdleSeconds": 0}
"""A pool's pace downwards."""


def task(name: str, **kwargs: Any) -> Manifest:
    """A template: the task `e2e.name` of `ledger_tasks`."""
    return {"spec": {"task": f"e2e.{name}", "kwargs": kwargs}}


def scheduled_job(name: str, template: Manifest | None = None, **spec: Any) -> Manifest:
    """It leaves a trace under its name as soon as it is accepted."""
    return _object("ScheduledJob", name, {"template": template or task("record", label=name), **spec})


def periodic_job(name: str, template: Manifest | None = None, **spec: Any) -> Manifest:
    """It leaves a trace under its name each second."""
    schedule = {"schedule": {"intervalSeconds": 1}, "jobTemplate": template or task("record", label=name)}
    return _object("PeriodicJob", name, {**schedule, **spec})


def worker_pool(
    name: str, *, target: str, slots_hint: int | None = None, replicas: int | None = None, **autoscaling: Any
) -> Manifest:
    reference = {"apiVersion": "apps/v1", "kind": "Deployment", "name": target}
    hint = {} if slots_hint is None else {"slotsHint": slots_hint}
    wish = {} if replicas is None else {"replicas": replicas}
    return _object("WorkerPool", name, {"targetRef": reference, **hint, **wish, "autoscaling": autoscaling})


def hundred_objects() -> list[Manifest]:
    """Of both kinds, none of which runs."""
    names = [f"job-{number}" for number in range(50)]
    schedule = {"cron": ["0 0 1 1 *"]}
    return [
        one for name in names for one in (scheduled_job(name, runAt=FAR_AWAY), periodic_job(name, schedule=schedule))
    ]


def _object(kind: str, name: str, spec: Manifest) -> Manifest:
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}
