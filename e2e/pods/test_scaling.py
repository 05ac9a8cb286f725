"""Pools in real pods: busy ones are spared when a pool shrinks, and workers are there when the schedule needs them."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest

from support import crowds
from support.objects import AT_ONCE, periodic_job, scheduled_job, task, worker_pool
from support.sizes import sized

if TYPE_CHECKING:
    from cluster.cluster import Cluster
    from cluster.progress import Progress
    from support.deployments import Deployments
    from support.tenants import Tenant

_MOST = 10
_FEW = 3
_REMOVALS = sized(40, full=200)
_LOAD = 8
"""Jobs that start each second, for a second and a half: more than the smallest pool has slots for."""

_JOBS = 200
_SLOTS = "50"
_BEFORE_SECONDS = 8  # the pool looks every two seconds
_LATE_SECONDS = sized(6, full=2)  # the design's figure, on a machine of its own
_MARKED = "SELECT count(*) FROM scheduler_workers WHERE tenant = $1 AND drain_until > now() AND state = 'alive'"
_LATENESS = """
SELECT percentile_cont(0.95) WITHIN GROUP (ORDER BY extract(epoch FROM started_at - execution_time))::float8 AS p95
FROM scheduled_jobs WHERE tenant = $1 AND job_id LIKE $2 AND status = 'completed' HAVING count(*) = $3
"""


@pytest.mark.timeout(120 + 10 * _REMOVALS)
def test_no_busy_pod_is_taken_away(
    cluster: Cluster, operator_namespace: str, tenant: Tenant, deployments: Deployments, progress: Progress
) -> None:
    """A worker whose pod is taken away hands its jobs back at once here: a run that has not ended was cut off."""
    deployments.deploy_workers(replicas=_MOST, PGSCHEDULER_SLOTS="3", PGSCHEDULER_SHUTDOWN_TIMEOUT="0")
    load = [periodic_job(f"p{n}", task("nap", label=f"p{n}", seconds=1.5), overlapPolicy="Allow") for n in range(_LOAD)]
    tenant.apply(worker_pool("pool", target="workers", replicas=_MOST, mode="External", maxReplicas=_MOST), *load)
    tenant.wait("load", lambda: len(tenant.ledger.all_runs()) > _LOAD, timeout_seconds=60)

    removed, sizes, killed = 0, random.Random(7), False  # noqa: S311
    while removed < _REMOVALS:
        wish = sizes.randint(1, _FEW)
        tenant.kubectl("scale", "wpool/pool", f"--replicas={wish}")
        if not killed and removed >= _REMOVALS // 2:
            tenant.wait("marks", lambda: _marked(tenant), timeout_seconds=60)
            cluster.kubectl("delete", "pods", "--all", "--namespace", operator_namespace, "--grace-period=0", "--force")
            killed = True
        _wait_for_replicas(tenant, deployments, wish)
        assert not _marked(tenant)
        removed += _MOST - wish
        tenant.kubectl("scale", "wpool/pool", f"--replicas={_MOST}")
        _wait_for_replicas(tenant, deployments, _MOST)
    cut = _cut(tenant, deployments)

    tenant.kubectl("delete", "wpool/pool")
    deployments.scale(_FEW)
    _wait_for_replicas(tenant, deployments, _FEW)
    progress.say(
        f"{removed} pods taken away under load, the operator killed in between: {cut} runs cut off;"
        f" {_MOST - _FEW} taken away without draining: {_cut(tenant, deployments) - cut} runs cut off"
    )
    assert cut == 0
    assert _cut(tenant, deployments) > 0


def _wait_for_replicas(tenant: Tenant, deployments: Deployments, replicas: int) -> None:
    tenant.wait(f"{replicas} replicas", lambda: deployments.ready() == replicas, timeout_seconds=120)


def _marked(tenant: Tenant) -> int:
    (row,) = tenant.database.fetch(_MARKED, tenant.name)
    return int(row[0])


def _cut(tenant: Tenant, deployments: Deployments) -> int:
    """Runs that have not ended and whose pod is gone."""
    pods = deployments.pods()
    return sum(not run.has_ended and run.host not in pods for run in tenant.ledger.all_runs())


def test_pods_that_found_no_node_go_first(tenant: Tenant, deployments: Deployments) -> None:
    """The one that works is as old as a pod can be and busy, and the pool waits for none of the others to be ready."""
    deployments.deploy_workers(one_a_node=True, PGSCHEDULER_SLOTS="2")
    names = [f"job-{number}" for number in range(8)]
    pool = worker_pool(
        "pool", target="workers", minReplicas=1, maxReplicas=4, targetUtilizationPercent=100, scaleDown=AT_ONCE
    )
    tenant.apply(pool, *(scheduled_job(name, task("hold", label=name)) for name in names))
    tenant.wait("four pods, one of them ready", lambda: len(deployments.pods()) == 4)
    tenant.wait("two runs", lambda: len(tenant.ledger.all_runs()) == 2)
    (works,) = deployments.ready_pods()

    running = {run.label for run in tenant.ledger.all_runs()}
    crowds.delete(tenant, *(("ScheduledJob", name) for name in names if name not in running))
    tenant.wait("only the busy one", lambda: deployments.pods() == [works])

    for name in running:
        tenant.ledger.release(name)
    tenant.wait_for("sjob --all", "condition=Complete")
    assert [(run.host, run.has_ended) for run in tenant.ledger.all_runs()] == [(works, True)] * 2


@pytest.mark.timeout(300)
def test_workers_are_there_when_the_schedule_needs_them(
    tenant: Tenant, deployments: Deployments, progress: Progress
) -> None:
    """Pods take three seconds to start and the process after that: the pool learns how long by its first worker."""
    deployments.deploy_workers(replicas=0, start_seconds=3, PGSCHEDULER_SLOTS=_SLOTS)
    pool: dict[str, Any] = {"slots_hint": int(_SLOTS), "maxReplicas": 8, "scaleDown": AT_ONCE}
    tenant.apply(worker_pool("pool", target="workers", **pool, minReplicas=1))
    start_seconds = tenant.wait("a worker", lambda: _start_seconds(tenant), timeout_seconds=60)
    lead = round(start_seconds + 4)

    tenant.apply(worker_pool("pool", target="workers", **pool))
    _wait_for_no_pods(tenant, deployments)
    ping = {"spec": {"task": "pgscheduler.ping"}}
    tenant.apply(periodic_job("tick", ping, schedule={"intervalSeconds": lead + _BEFORE_SECONDS}))
    (tick_late,) = tenant.wait("a tick", lambda: _ended(tenant), timeout_seconds=lead + 60)
    tenant.delete("pjob/tick")
    _wait_for_no_pods(tenant, deployments)
    ahead = _lateness(tenant, "ahead", in_seconds=lead + _BEFORE_SECONDS)
    _wait_for_no_pods(tenant, deployments)
    tenant.apply(worker_pool("pool", target="workers", **pool, lookahead={"mode": "Off"}))
    blind = _lateness(tenant, "blind", in_seconds=3)
    progress.say(
        f"{_JOBS} jobs due at one moment without a worker, whose pods start in 3 s: p95 {ahead:.2f} s late with a"
        f" look-ahead of {lead} s, {blind:.2f} s without; a periodic job from zero {tick_late:.2f} s late"
    )

    assert tick_late < _LATE_SECONDS
    assert ahead < _LATE_SECONDS
    assert blind > ahead


def _wait_for_no_pods(tenant: Tenant, deployments: Deployments) -> None:
    tenant.wait("no pods", lambda: not deployments.pods(), timeout_seconds=60)


def _start_seconds(tenant: Tenant) -> float:
    """How long the pool's first worker took to start; 0 while none has."""
    (row,) = tenant.database.fetch(
        "SELECT coalesce(max(value::float8), 0) FROM scheduler_pools, json_each_text(starts) WHERE tenant = $1",
        tenant.name,
    )
    return float(row[0])


def _ended(tenant: Tenant) -> list[float]:
    """How late each run of the tick was."""
    rows = [row for row in tenant.rows("tick") if row["status"] == "completed"]
    return [(row["started_at"] - row["execution_time"]).total_seconds() for row in rows]


def _lateness(tenant: Tenant, name: str, *, in_seconds: float) -> float:
    tenant.database.fetch(
        "SELECT scheduler_enqueue('pgscheduler.ping', run_at => now() + make_interval(secs => $3), tenant => $1,"
        " job_id => $2 || n) FROM generate_series(1, $4::int) n",
        *(tenant.name, f"{tenant.name}-{name}-", in_seconds, _JOBS),
    )
    prefix = f"{tenant.name}-{name}-%"
    (row,) = tenant.wait(
        f"{name}: {_JOBS} jobs",
        lambda: tenant.database.fetch(_LATENESS, tenant.name, prefix, _JOBS),
        timeout_seconds=60,
    )
    return float(row["p95"])
