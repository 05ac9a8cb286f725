"""Deleting objects: their rows go along, and nothing hangs on a finalizer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support import crowds
from support.agreement import stand_as_wanted
from support.objects import FAR_AWAY, hundred_objects, periodic_job, scheduled_job, task, worker_pool
from support.tenants import NAMESPACE_ENDS_SECONDS

if TYPE_CHECKING:
    from cluster.progress import Progress
    from support.tenants import Tenant


@pytest.mark.usefixtures("operator")
def test_deletion_of_a_pending_job_cancels_its_row(tenant: Tenant) -> None:
    tenant.apply(scheduled_job("unwanted", runAt=FAR_AWAY))
    tenant.wait_for("sjob/unwanted", "condition=Ready")
    assert tenant.row("unwanted")["status"] == "pending"

    tenant.delete("sjob/unwanted", timeout_seconds=10)

    assert tenant.row("unwanted")["status"] == "cancelled"


@pytest.mark.usefixtures("operator_and_worker")
def test_deletion_of_a_running_job_lets_it_finish(tenant: Tenant) -> None:
    tenant.apply(scheduled_job("busy", task("hold", label="busy")))
    tenant.wait_for("sjob/busy", "condition=Started")

    tenant.delete("sjob/busy", timeout_seconds=10)
    assert tenant.row("busy")["status"] == "running"

    tenant.ledger.release("busy")
    tenant.wait("its end", lambda: tenant.row("busy")["status"] == "completed")


@pytest.mark.usefixtures("operator_and_worker")
def test_deletion_of_a_periodic_job_stops_its_ticks(tenant: Tenant) -> None:
    tenant.apply(periodic_job("stopped"), periodic_job("clock"))
    tenant.wait("two runs", lambda: len(tenant.ledger.runs("stopped")) >= 2)
    schedule = tenant.rows("stopped")[0]["schedule_id"]

    tenant.delete("pjob/stopped", timeout_seconds=10)
    assert tenant.schedules() == ["clock"]
    started, ticks = len(tenant.ledger.runs("stopped")), len(tenant.ledger.runs("clock"))
    tenant.wait("three ticks of another", lambda: len(tenant.ledger.runs("clock")) >= ticks + 3)

    assert len(tenant.ledger.runs("stopped")) <= started + 1  # one may have been claimed before the deletion
    left = tenant.database.fetch("SELECT status FROM scheduled_jobs WHERE schedule_id = $1", schedule)
    assert {row["status"] for row in left} <= {"completed", "cancelled"}


@pytest.mark.usefixtures("operator_and_worker")
def test_object_that_is_made_again_is_another_and_what_the_first_still_runs_is_not_its(tenant: Tenant) -> None:
    tenant.apply(scheduled_job("job", task("hold", label="first")), periodic_job("schedule", task("hold", label="old")))
    tenant.wait_for("sjob/job", "condition=Started")
    tenant.wait("a tick", lambda: tenant.ledger.runs("old"))
    first, old = tenant.row("job"), tenant.rows("schedule")[0]
    tenant.delete("sjob/job")
    tenant.delete("pjob/schedule")

    tenant.apply(
        scheduled_job("job", task("record", label="second")), periodic_job("schedule", task("record", label="new"))
    )
    tenant.wait_for("sjob/job", "condition=Complete")
    tenant.wait_for("pjob/schedule", "condition=LastRunSucceeded")
    tenant.ledger.release("first")
    tenant.ledger.release("old")
    statuses = "SELECT status FROM scheduled_jobs WHERE job_id IN ($1, $2)"

    def have_ended() -> bool:
        found = tenant.database.fetch(statuses, first["job_id"], old["job_id"])
        return [row["status"] for row in found] == ["completed", "completed"]

    tenant.wait("the end of both", have_ended)
    assert tenant.get("pjob/schedule")["status"]["lastRun"]["jobID"] != old["job_id"]
    assert tenant.get("sjob/job")["status"]["jobID"] != first["job_id"]


@pytest.mark.usefixtures("operator_and_worker")
def test_namespace_with_objects_ends(tenant: Tenant) -> None:
    tenant.apply(
        scheduled_job("pending", runAt=FAR_AWAY),
        scheduled_job("busy", task("hold", label="busy")),
        periodic_job("periodic"),
        worker_pool("pool", target="absent", maxReplicas=2),
    )
    tenant.wait_for("sjob/busy", "condition=Started")
    tenant.wait("a tick", lambda: tenant.ledger.runs("periodic"))

    tenant.cluster.kubectl("delete", "namespace", tenant.name, "--timeout=40s")

    assert tenant.row("pending")["status"] == "cancelled"
    assert tenant.row("busy")["status"] == "running"
    assert tenant.schedules() == []
    tenant.ledger.release("busy")


@pytest.mark.usefixtures("operator")
def test_namespace_with_a_hundred_objects_ends(tenant: Tenant, progress: Progress) -> None:
    crowds.create(tenant, hundred_objects())
    tenant.wait("all accepted", lambda: stand_as_wanted(tenant), timeout_seconds=30)

    with progress.phase("namespace with 100 objects deleted"):
        tenant.cluster.kubectl("delete", "namespace", tenant.name, timeout_seconds=NAMESPACE_ENDS_SECONDS)

    assert tenant.schedules() == []
    open_rows = "SELECT 1 FROM scheduled_jobs WHERE tenant = $1 AND finished_at IS NULL"
    assert tenant.database.fetch(open_rows, tenant.name) == []
