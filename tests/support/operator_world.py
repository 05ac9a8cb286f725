"""Objects as an API server keeps them, in memory and with faults, and short ways to bodies and rows for plans.

Invariant: a write that an API server would refuse (the object changed, or is gone) is refused here too.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import TYPE_CHECKING, Any

from pg_scheduler.control import JobState, ScheduleState, Source
from pg_scheduler.job_status import JobStatus
from pg_scheduler.job_template import Deletion
from pg_scheduler.operations import Owner
from pg_scheduler.recurrence import Bounds, History, Interval, Policy
from pg_scheduler_operator.errors import ObjectChanged, ObjectGone
from pg_scheduler_operator.resources import API_VERSION, FINALIZER, Key, Kind, TargetScale, stamp

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence

    from pg_scheduler_operator.resources import Meta, Pod, TargetRef
    from pg_scheduler_operator.status import Notice, Reason

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
CLUSTER = "default"


def scheduled_job(**spec: Any) -> dict[str, Any]:
    """The spec of a ScheduledJob, but for the changes."""
    return {"template": {"spec": {"task": "t"}}, **spec}


def periodic_job(**spec: Any) -> dict[str, Any]:
    """The spec of a PeriodicJob that ticks every hour, but for the changes."""
    return {"schedule": {"intervalSeconds": 3600}, "jobTemplate": {"spec": {"task": "t"}}, **spec}


def worker_pool(**autoscaling: Any) -> dict[str, Any]:
    """The spec of a WorkerPool of at most ten replicas, but for the changes."""
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "workers"}
    return {"targetRef": target, "autoscaling": {"maxReplicas": 10, **autoscaling}}


def body(kind: Kind, spec: Any, *, status: Mapping[str, Any] | None = None, **metadata: Any) -> dict[str, Any]:
    """An object that holds our finalizer, but for the changes of its metadata."""
    defaults = {"name": "x", "namespace": "billing", "uid": "u1", "generation": 1, "finalizers": [FINALIZER]}
    return {
        "apiVersion": API_VERSION,
        "kind": kind.value,
        "metadata": {**defaults, "resourceVersion": "1", **metadata},
        "spec": spec,
        "status": dict(status or {}),
    }


def source(kind: Kind = Kind.SCHEDULED_JOB, *, generation: int = 1) -> Source:
    """The owner that ``body`` makes."""
    return Source(cluster=CLUSTER, kind=kind.value, tenant="billing", name="x", uid="u1", generation=generation)


def job_row(status: JobStatus = JobStatus.PENDING, *, generation: int = 1, **changes: Any) -> JobState:
    """The row of ``body``'s ScheduledJob, but for the changes."""
    started = status is not JobStatus.PENDING
    defaults: dict[str, Any] = {
        "job_id": "sj-u1",
        "source": source(generation=generation),
        "status": status,
        "task": "t",
        "queue": "default",
        "suspended": False,
        "run_at": NOW,
        "attempt": 1 if started else 0,
        "worker_id": "w1" if started else None,
        "started_at": NOW if started else None,
        "finished_at": NOW + timedelta(seconds=1) if status.is_final else None,
        "error_type": None,
        "error_at": None,
        "stopping": False,
        "tick_at": None,
    }
    return JobState(**{**defaults, **changes})


def schedule_row(*, generation: int = 1, **changes: Any) -> ScheduleState:
    """The row of ``body``'s PeriodicJob, but for the changes."""
    defaults: dict[str, Any] = {
        "source": source(Kind.PERIODIC_JOB, generation=generation),
        "rule": Interval(3600),
        "bounds": Bounds(),
        "policy": Policy(overlap="skip"),
        "history": History(successful=20, failed=50),
        "deletion": Deletion.CANCEL_PENDING,
        "task": "t",
        "queue": "default",
        "suspended": False,
        "suspend_reason": "",
        "halted_at": None,
        "halted_reason": None,
        "anchor_at": NOW,
        "last_tick_at": None,
        "next_tick_at": NOW + timedelta(hours=1),
        "ticks": 0,
        "runs": 0,
        "last_job": None,
        "last_end": None,
        "last_end_at": None,
        "missed_at": None,
        "is_overdue": False,
        "is_served": True,
        "time_zone_data": None,
        "counts": None,
    }
    return ScheduleState(**{**defaults, **changes})


class FakeCluster:
    """An API server's objects: what ``kubectl`` would do, and the gateway that the operator uses.

    ``fault`` is asked before each call of the gateway with its name, and may raise.
    """

    def __init__(self, *, identity: str = "one") -> None:
        self._identity = identity
        self.objects: dict[Key, dict[str, Any]] = {}
        self.deployments: dict[str, TargetScale] = {}
        self.target_pods: list[Pod] = []
        self.hpas: dict[str, str] = {}
        self.notices: dict[str, Notice] = {}
        self.warnings: list[tuple[Reason, str]] = []
        self.revisions: Mapping[str, int] | None = {}
        self.writes: list[tuple[str, Key]] = []
        self.fault: Callable[[str], None] = lambda _: None
        self._numbers = count(1)

    def apply(self, kind: Kind, name: str, spec: Any, *, namespace: str = "billing") -> Key:
        """Make or change an object, as its user does."""
        key = Key(kind=kind, namespace=namespace, name=name)
        if key not in self.objects:
            metadata: dict[str, Any] = {"finalizers": [], "generation": 0, "uid": f"uid-{next(self._numbers)}"}
            metadata["creationTimestamp"] = stamp(NOW + timedelta(seconds=next(self._numbers)))
            self.objects[key] = body(kind, None, **{**metadata, "name": name, "namespace": namespace})
        live = self.objects[key]
        if live["spec"] != spec:
            live["spec"] = spec
            live["metadata"]["generation"] += 1
        self._touch(live)
        return key

    def delete(self, key: Key, *, at: datetime | None = None) -> None:
        """Ask for the deletion of an object, as its user does."""
        live = self.objects[key]
        live["metadata"]["deletionTimestamp"] = stamp(at or datetime.now(UTC))
        self._touch(live)
        if not live["metadata"]["finalizers"]:
            del self.objects[key]

    def condition(self, key: Key, name: str) -> tuple[str, str]:
        """Status and reason of a condition, as its user sees it."""
        conditions = self.objects[key]["status"].get("conditions", ())
        return next(((c["status"], c["reason"]) for c in conditions if c["type"] == name), ("", ""))

    def count(self, write: str, key: Key) -> int:
        """How often something was written to an object."""
        return self.writes.count((write, key))

    def _touch(self, live: dict[str, Any]) -> None:
        live["metadata"]["resourceVersion"] = str(next(self._numbers))

    def _live(self, meta: Meta) -> dict[str, Any]:
        live = self.objects.get(meta.key)
        if live is None or live["metadata"]["uid"] != meta.uid:
            raise ObjectGone(f"{meta.key} is gone", status=404)
        return live

    def serves(self, namespace: str) -> bool:
        return namespace != "elsewhere"

    async def get(self, key: Key) -> Mapping[str, Any] | None:
        self.fault("get")
        return deepcopy(self.objects.get(key))

    async def pages(self, kind: Kind) -> AsyncIterator[Sequence[Mapping[str, Any]]]:
        self.fault("pages")
        bodies = [deepcopy(live) for key, live in self.objects.items() if key.kind is kind]
        for start in range(0, len(bodies), 3):
            yield bodies[start : start + 3]

    async def uids(self) -> Collection[str]:
        self.fault("uids")
        return {live["metadata"]["uid"] for live in self.objects.values()}

    async def identity(self) -> str:
        return self._identity

    async def owners(self) -> Collection[Owner]:
        return [
            Owner(
                kind=key.kind.value,
                tenant=key.namespace,
                name=key.name,
                uid=live["metadata"]["uid"],
                generation=live["metadata"]["generation"],
            )
            for key, live in self.objects.items()
        ]

    async def set_finalizers(self, meta: Meta, finalizers: Collection[str]) -> None:
        self.fault("set_finalizers")
        live = self._live(meta)
        if live["metadata"]["resourceVersion"] != meta.resource_version:
            raise ObjectChanged(f"{meta.key} has changed", status=409)
        self.writes.append(("finalizers", meta.key))
        live["metadata"]["finalizers"] = list(finalizers)
        self._touch(live)
        if not finalizers and "deletionTimestamp" in live["metadata"]:
            del self.objects[meta.key]

    async def remove(self, meta: Meta) -> None:
        self.fault("remove")
        self._live(meta)
        self.writes.append(("remove", meta.key))
        self.delete(meta.key)

    async def write_status(self, meta: Meta, live: Mapping[str, Any], desired: Mapping[str, Any]) -> None:
        self.fault("write_status")
        there = self._live(meta)
        if there["status"].get("conditions") != live.get("conditions"):
            raise ObjectChanged(f"{meta.key} has changed", status=422)
        self.writes.append(("status", meta.key))
        there["status"] = dict(desired)
        self._touch(there)

    async def tell(self, notice: Notice) -> None:
        self.fault("tell")
        self.notices.setdefault(notice.name, notice)

    async def crd_revisions(self) -> Mapping[str, int] | None:
        return self.revisions

    async def warn(self, reason: Reason, note: str) -> None:
        self.warnings.append((reason, note))

    async def scale_of(self, meta: Meta, target: TargetRef) -> TargetScale | None:
        self.fault("scale_of")
        return self.deployments.get(f"{meta.key.namespace}/{target.name}")

    async def scale(self, meta: Meta, target: TargetRef, *, wanted: int, replicas: int) -> None:
        self.fault("scale")
        name = f"{meta.key.namespace}/{target.name}"
        if self.deployments[name].wanted != wanted:
            raise ObjectChanged(f"{name} has changed", status=422)
        self.writes.append(("scale", meta.key))
        self.deployments[name] = TargetScale(wanted=replicas, existing=replicas)

    async def pods(self, meta: Meta, selector: str) -> Sequence[Pod]:
        del meta, selector
        self.fault("pods")
        return list(self.target_pods)

    async def set_deletion_cost(self, meta: Meta, pod: str, cost: int | None) -> None:
        del meta
        self.fault("set_deletion_cost")
        self.target_pods = [
            replace(each, deletion_cost=cost) if each.name == pod else each for each in self.target_pods
        ]

    async def pools(self, namespace: str) -> Sequence[Mapping[str, Any]]:
        self.fault("pools")
        pools = (live for key, live in self.objects.items() if key.kind is Kind.WORKER_POOL)
        return [deepcopy(live) for live in pools if live["metadata"]["namespace"] == namespace]

    async def autoscalers(self, namespace: str) -> Mapping[str, str]:
        del namespace
        self.fault("autoscalers")
        return self.hpas

    @property
    def reasons(self) -> list[str]:
        """Reasons of the events told."""
        return sorted(notice.reason.value for notice in self.notices.values())
