"""The database goes away under the operator, which lives on and makes up for it."""

from __future__ import annotations

from time import monotonic, sleep
from typing import TYPE_CHECKING

import pytest

from cluster.postgres import Database
from pg_scheduler.embedded import EmbeddedPostgres
from support import crowds
from support.agreement import stand_as_wanted
from support.objects import AT_ONCE, FAR_AWAY, hundred_objects, scheduled_job, worker_pool
from support.sizes import sized
from support.tenants import NAMESPACE_ENDS_SECONDS, Tenant

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cluster.progress import Progress
    from support.programs import Program, StartProgram

_OUTAGE_SECONDS = sized(20, full=600)
_CONVERGED_SECONDS = sized(90, full=30)  # the design's figure, on a machine of its own
_LOOK_SECONDS = 0.5
_PORT = 5433
_DSN = f"postgresql://postgres@127.0.0.1:{_PORT}/postgres"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedPostgres]:
    """One that the test may stop. Not started."""
    one = EmbeddedPostgres(
        tmp_path / "data",
        settings={"listen_addresses": "127.0.0.1", "port": str(_PORT)},
        hba=["host all all 127.0.0.1/32 trust"],
        durable=False,
    )
    yield one
    one.stop()


def test_operator_waits_for_a_database_that_is_not_up_yet(
    server: EmbeddedPostgres, tenant: Tenant, start_operator: StartProgram
) -> None:
    operator = start_operator(dsn=_DSN, wait=False)
    operator.says("PGS-0")
    tenant.apply(scheduled_job("early", runAt=FAR_AWAY))

    server.start()

    operator.says("serving")
    tenant.wait_for("sjob/early", "condition=Ready", timeout_seconds=20)


@pytest.mark.timeout(_OUTAGE_SECONDS + 240)
def test_operator_outlives_an_outage_of_the_database(
    server: EmbeddedPostgres, tenant: Tenant, start_operator: StartProgram, progress: Progress
) -> None:
    server.start()
    tenant.kubectl("create", "deployment", "workers", "--image=localhost/none:1", "--replicas=2")
    operator = start_operator(dsn=_DSN, PGSCHEDULER_HTTP="127.0.0.1:0")
    tenant.apply(
        scheduled_job("before", runAt=FAR_AWAY),
        scheduled_job("deleted", runAt=FAR_AWAY),
        worker_pool("pool", target="workers", minReplicas=2, maxReplicas=3, scaleDown=AT_ONCE),
    )
    tenant.wait_for("sjob/before sjob/deleted", "condition=Ready")
    tenant.wait_for("wpool/pool", "condition=DatabaseReachable")
    assert operator.answers("readyz") == 200

    server.stop()
    stopped_at = monotonic()
    tenant.wait_for("wpool/pool", "condition=DatabaseReachable=False")
    tenant.wait_for("wpool/pool", "condition=ScalingActive=False")
    tenant.patch("wpool/pool", autoscaling={"minReplicas": 1})
    tenant.apply(scheduled_job("meanwhile"))
    tenant.patch("sjob/before", suspend=True)
    tenant.delete("sjob/deleted", timeout_seconds=30)  # after 20 s: no namespace hangs on a database
    told = tenant.kubectl("get", "events", "--output", "jsonpath={..reason}")
    assert "RowCleanupDeferred" in told.split()
    _watch(tenant, operator, until=stopped_at + _OUTAGE_SECONDS)

    server.start()
    healed_at = monotonic()
    tenant.wait("all made up for", lambda: _has_made_up(tenant, operator), timeout_seconds=_CONVERGED_SECONDS)
    progress.say(
        f"database away for {healed_at - stopped_at:.0f} s: live, not ready, replicas as they were, and all made up for"
        f" {monotonic() - healed_at:.1f} s after"
    )

    operator.terminate()
    start_operator(dsn=_DSN)
    rows = Tenant(tenant.cluster, tenant.name, Database(name="postgres", dsn=_DSN, pod_dsn=_DSN))
    tenant.wait("the sweep, at the start if none was due before", lambda: rows.row("deleted")["status"] == "cancelled")


def _watch(tenant: Tenant, operator: Program, *, until: float) -> None:
    """What holds for as long as the database is away; it is looked at once at least."""
    while True:
        assert (operator.answers("livez"), operator.answers("readyz")) == (200, 503)
        assert tenant.get("deployment/workers")["spec"]["replicas"] == 2
        tenant.check()
        if monotonic() > until:
            return
        sleep(_LOOK_SECONDS)


def _has_made_up(tenant: Tenant, operator: Program) -> bool:
    """Whether all that was wished for meanwhile is done, and the pool smaller at last."""
    return (
        operator.answers("readyz") == 200
        and tenant.condition("sjob/meanwhile", "Ready").get("status") == "True"
        and tenant.condition("sjob/before", "Suspended").get("status") == "True"
        and tenant.condition("wpool/pool", "ScalingActive")["status"] == "True"
        and tenant.get("deployment/workers")["spec"]["replicas"] == 1
    )


@pytest.mark.timeout(NAMESPACE_ENDS_SECONDS + 90)
def test_namespace_with_a_hundred_objects_ends_without_a_database(
    server: EmbeddedPostgres, tenant: Tenant, start_operator: StartProgram, progress: Progress
) -> None:
    server.start()
    start_operator(dsn=_DSN, everywhere=True)
    crowds.create(tenant, hundred_objects())
    rows = Tenant(tenant.cluster, tenant.name, Database(name="postgres", dsn=_DSN, pod_dsn=_DSN))
    tenant.wait("all accepted", lambda: stand_as_wanted(rows), timeout_seconds=30)

    server.stop()
    with progress.phase("namespace with 100 objects deleted without a database"):
        tenant.cluster.kubectl("delete", "namespace", tenant.name, timeout_seconds=NAMESPACE_ENDS_SECONDS)
