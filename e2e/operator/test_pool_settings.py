"""What a WorkerPool says of queues reaches workers that run, and is taken back with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from cluster.processes import CommandError
from support.objects import scheduled_job, task, worker_pool

if TYPE_CHECKING:
    from cluster.cluster import Manifest
    from support.tenants import Tenant

_JOBS = ("a", "b", "c")


def _pool(name: str = "pool", *queues: Any) -> Manifest:
    manifest = worker_pool(name, target="workers", mode="Off")
    return {**manifest, "spec": {**manifest["spec"], "queues": list(queues)}}


def _limited(tenant: Tenant, **settings: Any) -> bool:
    rows = tenant.database.fetch("SELECT * FROM scheduler_queue_settings WHERE tenant = $1", tenant.name)
    return [{name: row[name] for name in settings} for row in rows] == [settings]


@pytest.mark.usefixtures("operator_and_worker")
def test_a_limit_holds_is_raised_and_goes_while_the_worker_runs(tenant: Tenant) -> None:
    tenant.apply(_pool("pool", {"name": "default", "concurrency": 1}))
    tenant.wait("the limit is stored", lambda: _limited(tenant, queue="default", concurrency=1))
    tenant.apply(*(scheduled_job(name, task("hold", label=name)) for name in _JOBS))
    (first,) = tenant.wait("one runs", tenant.ledger.all_runs)

    tenant.ledger.release(first.label)
    tenant.wait_for(f"sjob/{first.label}", "condition=Complete")
    tenant.wait("one more runs", lambda: len(tenant.ledger.all_runs()) == 2)
    assert sum(not run.has_ended for run in tenant.ledger.all_runs()) == 1

    tenant.delete("wpool/pool")

    tenant.wait("all run", lambda: len(tenant.ledger.all_runs()) == 3)
    for name in _JOBS:
        tenant.ledger.release(name)
    tenant.wait_for("sjob --all", "condition=Complete")


@pytest.mark.usefixtures("operator_and_worker")
def test_a_pool_pauses_a_queue_and_lets_it_go(tenant: Tenant) -> None:
    tenant.apply(_pool("pool", {"name": "default", "paused": True}))
    tenant.wait("the pause is stored", lambda: _limited(tenant, queue="default", paused=True))
    tenant.apply(scheduled_job("held"))
    tenant.wait_for("sjob/held", "condition=Ready")
    assert tenant.row("held")["status"] == "pending"

    tenant.patch("wpool/pool", queues=[{"name": "default", "weight": 2}])

    tenant.wait_for("sjob/held", "condition=Complete")


@pytest.mark.usefixtures("operator_and_worker")
def test_of_two_pools_one_counts_and_the_other_says_so(tenant: Tenant) -> None:
    """Which one is older is not known here: ages are told in whole seconds, and uids decide between equals."""
    limits = {"this": 5, "that": 9}
    tenant.apply(*(_pool(name, {"name": "mail", "concurrency": limit}) for name, limit in limits.items()))

    def is_in_conflict(name: str) -> bool:
        return tenant.condition(f"wpool/{name}", "Degraded").get("reason") == "QueueConflict"

    (other,) = tenant.wait("one says so", lambda: [name for name in limits if is_in_conflict(name)])
    (first,) = limits.keys() - {other}
    tenant.wait("the other's limit stands", lambda: _limited(tenant, pool=first, concurrency=limits[first]))

    tenant.delete(f"wpool/{first}")

    tenant.wait("it takes over", lambda: _limited(tenant, pool=other, concurrency=limits[other]))
    tenant.wait("nothing is wrong any more", lambda: not is_in_conflict(other))


@pytest.mark.usefixtures("crds")
def test_a_queue_that_stands_twice_is_refused_by_the_api_server(tenant: Tenant) -> None:
    with pytest.raises(CommandError, match="Duplicate value"):
        tenant.apply(_pool("pool", {"name": "mail"}, {"name": "mail", "weight": 2}))
