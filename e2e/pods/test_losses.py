"""A machine is lost, or a pod its way to the database: jobs are finished by others, and no late result counts."""

from __future__ import annotations

from datetime import timedelta
from time import monotonic
from typing import TYPE_CHECKING

from cluster import network, postgres
from support.objects import scheduled_job, task

if TYPE_CHECKING:
    from cluster.node import Node
    from cluster.progress import Progress
    from support.deployments import Deployments
    from support.tenants import Tenant

_LEASE_SECONDS = 5
_DRIFT = timedelta(seconds=2 * _LEASE_SECONDS)
_SLOTS = 4
_RESCUED_SECONDS = 40
_LIVES = "SELECT 1 FROM scheduler_workers WHERE pod = $1 AND state = 'alive' AND lease_until > scheduler_now()"
_LAPSED = """
SELECT 1 FROM scheduler_workers WHERE pod = $1 HAVING max(lease_until) < scheduler_now() - make_interval(secs => $2)
"""


def test_jobs_of_a_lost_node_are_finished_by_others_and_the_pool_recovers(
    tenant: Tenant, deployments: Deployments, second_node: Node, progress: Progress
) -> None:
    deployments.deploy_workers(replicas=2, PGSCHEDULER_LEASE=str(_LEASE_SECONDS), PGSCHEDULER_SLOTS=str(_SLOTS))
    names = [f"job-{number}" for number in range(2 * _SLOTS)]
    tenant.apply(*(scheduled_job(name, task("hold", label=name)) for name in names))
    tenant.wait("all start", lambda: len(tenant.ledger.all_runs()) == len(names), timeout_seconds=20)
    lost_pod = deployments.pod_on(second_node.name)
    lost = [run.label for run in tenant.ledger.all_runs() if run.host == lost_pod]
    assert len(lost) == _SLOTS

    second_node.kill()
    killed_at = monotonic()
    for name in names:
        tenant.ledger.release(name)

    tenant.wait_for("sjob --all", "condition=Complete", timeout_seconds=_RESCUED_SECONDS)
    progress.say(f"node lost: its {len(lost)} jobs finished elsewhere {monotonic() - killed_at:.1f} s after")
    tenant.wait("two others", lambda: len(deployments.ready_pods() - {lost_pod}) == 2, timeout_seconds=90)
    progress.say(f"node lost: two pods again {monotonic() - killed_at:.1f} s after")
    for name in names:
        row, starts = tenant.row(name), 2 if name in lost else 1
        assert (row["attempt"], row["interruptions"]) == (starts, starts - 1)
        runs = tenant.ledger.runs(name)
        assert [run.has_ended for run in runs] == [False] * (starts - 1) + [True]
        assert runs[-1].host != lost_pod


def test_result_of_a_worker_that_was_cut_off_is_refused(
    tenant: Tenant, deployments: Deployments, progress: Progress
) -> None:
    deployments.deploy_workers(replicas=2, PGSCHEDULER_LEASE=str(_LEASE_SECONDS))
    tenant.apply(scheduled_job("late", task("drift", label="late", seconds=_DRIFT.total_seconds())))
    tenant.wait("its start", lambda: tenant.ledger.runs("late"))
    (first,) = tenant.ledger.runs("late")
    address = tenant.get(f"pod/{first.host}")["status"]["podIP"]

    def lapsed() -> list[object]:
        return [*tenant.database.fetch(_LAPSED, first.host, _LEASE_SECONDS)]

    cut_at = monotonic()
    with network.cut_off(address, port=postgres.PORT):
        tenant.wait("a second start", lambda: len(tenant.ledger.runs("late")) == 2, timeout_seconds=_RESCUED_SECONDS)
        progress.say(f"worker cut off: its job started elsewhere {monotonic() - cut_at:.1f} s after")
        second = tenant.row("late")
        tenant.wait("two leases", lapsed, timeout_seconds=20)
    tenant.wait("its return", lambda: tenant.database.fetch(_LIVES, first.host), timeout_seconds=_RESCUED_SECONDS)
    tenant.wait_for("sjob/late", "condition=Complete", timeout_seconds=_RESCUED_SECONDS)

    row = tenant.row("late")
    assert (row["attempt"], row["interruptions"], row["token"]) == (2, 1, second["token"])
    assert row["finished_at"] - row["started_at"] >= _DRIFT  # the second one's end, not the first one's
    assert [run.host == first.host for run in tenant.ledger.runs("late")] == [True, False]
