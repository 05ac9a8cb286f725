"""A namespace is a tenant: what is written in one reaches no worker of another."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from cluster.processes import CommandError
from support.objects import FAR_AWAY, periodic_job, scheduled_job, task, worker_pool

if TYPE_CHECKING:
    from collections.abc import Callable

    from cluster.cluster import Manifest
    from support.programs import StartProgram
    from support.tenants import Tenant


@pytest.mark.usefixtures("operator")
def test_job_is_run_by_workers_of_its_own_namespace_only(
    tenant: Tenant, new_tenant: Callable[[], Tenant], start_worker: StartProgram
) -> None:
    other = new_tenant()
    start_worker(of=other.name)
    tenant.apply(scheduled_job("mine"))
    tenant.wait_for("sjob/mine", "condition=Ready")
    other.apply(scheduled_job("theirs"))
    other.wait_for("sjob/theirs", "condition=Complete")

    row = tenant.row("mine")
    assert (row["status"], row["attempt"], row["tenant"]) == ("pending", 0, tenant.name)

    start_worker()
    tenant.wait_for("sjob/mine", "condition=Complete")
    assert [run.label for run in other.ledger.all_runs()] == ["theirs"]
    assert [run.label for run in tenant.ledger.all_runs()] == ["mine"]


def test_spec_cannot_name_another_namespace(tenant: Tenant) -> None:
    with pytest.raises(CommandError, match=r'unknown field "spec\.namespace"'):
        tenant.apply(scheduled_job("mine", namespace="kube-system"))
    with pytest.raises(CommandError, match=r'unknown field "spec\.template\.spec\.tenant"'):
        tenant.apply(scheduled_job("mine", {"spec": {"task": "e2e.record", "tenant": "kube-system"}}))

    assert tenant.kubectl("get", "sjob") == ""


@pytest.mark.usefixtures("operator")
def test_names_and_keys_of_another_namespace_reach_nothing_there(
    tenant: Tenant, new_tenant: Callable[[], Tenant], start_worker: StartProgram
) -> None:
    victim = new_tenant()
    start_worker(of=victim.name)
    start_worker()
    victim.kubectl("create", "deployment", "workers", "--image=localhost/none:1", "--replicas=1")
    victim.apply(
        scheduled_job("held", _with_key("hold", "held")),
        scheduled_job("once", idempotencyKey="once"),
        scheduled_job("later", runAt=FAR_AWAY),
        periodic_job("nightly", schedule={"cron": ["0 0 1 1 *"]}),
        periodic_job("theirs", schedule={"cron": ["0 0 1 1 *"]}),
    )
    victim.wait_for("sjob/once", "condition=Complete")
    victim.wait_for("sjob/held", "condition=Started")
    victim.wait_for("sjob/later pjob/nightly pjob/theirs", "condition=Ready")
    before = _versions(victim)
    thieves = {
        "thief-of-pending": victim.row("later")["job_id"],
        "thief-of-running": victim.row("held")["job_id"],
        "thief-of-ended": f"key:{victim.name}/once",
    }

    tenant.apply(
        worker_pool("pool", target="workers", minReplicas=3, maxReplicas=3),
        scheduled_job("same-key", _with_key("record", "same-key")),
        scheduled_job("same-once", idempotencyKey="once"),
        scheduled_job("its-once", idempotencyKey=f"{victim.name}/once"),
        _without_template("extra", periodicJobRef={"name": "theirs"}),
        scheduled_job("later", runAt=FAR_AWAY, cancel=True),
        *(scheduled_job(name, runAt=FAR_AWAY, deletionPolicy="Cancel") for name in thieves),
        periodic_job("nightly", schedule={"cron": ["0 0 1 1 *"]}, suspend=True),
    )
    tenant.wait_for("sjob/same-key sjob/same-once sjob/its-once", "condition=Complete")
    tenant.wait_for("sjob/later", "condition=Finished")
    tenant.wait_for("sjob/extra", "condition=Ready=False")
    tenant.wait_for("wpool/pool", "condition=Ready=False")
    for thief, job_id in thieves.items():
        _claim(tenant, thief, job_id)
        tenant.patch(f"sjob/{thief}", cancel=True)
        tenant.wait_for(f"sjob/{thief}", "condition=Finished")
        tenant.delete(f"sjob/{thief}")
    tenant.delete("pjob/nightly")

    assert tenant.condition("sjob/extra", "Ready")["reason"] == "PeriodicJobNotFound"
    assert tenant.condition("wpool/pool", "Ready")["reason"] == "TargetNotFound"
    assert victim.get("deployment/workers")["spec"]["replicas"] == 1
    assert _versions(victim) == before
    assert sorted(run.label for run in victim.ledger.all_runs()) == ["held", "once"]
    assert sorted(run.label for run in tenant.ledger.all_runs()) == ["its-once", "same-key", "same-once"]
    victim.ledger.release("held")
    victim.wait_for("sjob/held", "condition=Complete")


def _with_key(name: str, label: str) -> Manifest:
    template = task(name, label=label)
    return {"spec": {**template["spec"], "concurrency": {"key": "shared", "limit": 1}}}


def _without_template(name: str, **spec: object) -> Manifest:
    return {**scheduled_job(name), "spec": spec}


def _claim(tenant: Tenant, name: str, job_id: str) -> None:
    """Say in the status of an object that another's job is its own."""
    patch = json.dumps({"status": {"jobID": job_id}})
    tenant.kubectl("patch", f"sjob/{name}", "--subresource=status", "--type=merge", "--patch", patch)


def _versions(tenant: Tenant) -> list[tuple[str, str]]:
    """Whatever is written to a row changes its version."""
    found = tenant.database.fetch(
        "SELECT job_id AS name, xmin::text AS version FROM scheduled_jobs WHERE tenant = $1"
        " UNION ALL SELECT source_name, xmin::text FROM scheduler_schedules WHERE tenant = $1 ORDER BY 1",
        tenant.name,
    )
    return [(row["name"], row["version"]) for row in found]
