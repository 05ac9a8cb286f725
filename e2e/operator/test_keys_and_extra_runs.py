"""Jobs that outlive their object or refer to another one: idempotency keys, time to live, extra runs, deletion."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.objects import FAR_AWAY, periodic_job, scheduled_job, task

if TYPE_CHECKING:
    from support.tenants import Tenant

_HOURLY = {"intervalSeconds": 3600}


@pytest.mark.usefixtures("operator_and_worker")
def test_job_applied_again_after_its_time_to_live_does_not_run_again(tenant: Tenant) -> None:
    invoices = scheduled_job("invoices", idempotencyKey="invoices-2026-12", ttlSecondsAfterFinished=1)
    tenant.apply(invoices)
    tenant.kubectl("wait", "sjob/invoices", "--for=delete", "--timeout=10s")
    assert len(tenant.ledger.runs("invoices")) == 1

    tenant.apply({**invoices, "spec": {**invoices["spec"], "ttlSecondsAfterFinished": 3600}})

    tenant.wait_for("sjob/invoices", "condition=Complete")
    assert len(tenant.ledger.runs("invoices")) == 1


@pytest.mark.usefixtures("operator_and_worker")
def test_extra_run_of_a_periodic_job_comes_with_it_and_is_no_tick(tenant: Tenant) -> None:
    extra = scheduled_job("extra")
    tenant.apply({**extra, "spec": {"periodicJobRef": {"name": "hourly"}, "readyWhen": "Complete"}})
    tenant.wait_for("sjob/extra", "condition=Ready=False")
    assert tenant.condition("sjob/extra", "Ready")["reason"] == "PeriodicJobNotFound"
    assert tenant.condition("sjob/extra", "Stalled")["status"] == "False"

    tenant.apply(periodic_job("hourly", schedule=_HOURLY))

    tenant.wait_for("sjob/extra", "condition=Ready")
    assert len(tenant.ledger.runs("hourly")) == 1
    assert tenant.get("pjob/hourly")["status"]["counts"]["planned"] == 0


@pytest.mark.usefixtures("operator_and_worker")
def test_deletion_does_with_the_job_what_its_object_says(tenant: Tenant) -> None:
    tenant.apply(
        scheduled_job("told", task("hold", label="told"), deletionPolicy="Cancel"),
        scheduled_job("left", runAt=FAR_AWAY, deletionPolicy="Orphan", idempotencyKey="left"),
    )
    tenant.wait_for("sjob/told", "condition=Started")
    tenant.wait_for("sjob/left", "condition=Ready")

    tenant.delete("sjob/told")
    tenant.delete("sjob/left")

    assert tenant.row("told")["status"] == "cancelled"
    tenant.wait("its worker reports the end", lambda: tenant.row("told")["stopping_worker"] is None)
    tenant.ledger.release("told")
    key = f"key:{tenant.name}/left"
    (left,) = tenant.database.fetch("SELECT status, source_uid FROM scheduled_jobs WHERE job_id = $1", key)
    assert tuple(left) == ("pending", None)


@pytest.mark.usefixtures("operator_and_worker")
def test_result_is_in_the_status_where_it_is_asked_for(tenant: Tenant) -> None:
    shown = {"spec": {"task": "pgscheduler.ping", "resultPolicy": "Status"}}
    tenant.apply(scheduled_job("shown", shown), scheduled_job("kept", {"spec": {"task": "pgscheduler.ping"}}))

    tenant.wait_for("sjob/shown sjob/kept", "condition=Complete")

    assert tenant.get("sjob/shown")["status"]["result"]
    assert "result" not in tenant.get("sjob/kept")["status"]
