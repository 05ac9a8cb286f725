"""What the API server cannot judge: schedules that the operator refuses, with the field named."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cluster.processes import CommandError
from support.objects import periodic_job, scheduled_job
from support.paths import ROOT

if TYPE_CHECKING:
    from support.tenants import Tenant

_INVALID = ROOT / "examples" / "invalid"


@pytest.mark.usefixtures("operator")
def test_schedule_that_cannot_be_used_is_refused_with_its_field(tenant: Tenant) -> None:
    tenant.apply_file(_INVALID / "bad-cron.yaml")
    tenant.apply_file(_INVALID / "bad-zone.yaml")

    tenant.wait_for("pjob --all", "condition=Ready=False")
    refused = {name: _refusal(tenant, f"pjob/{name}") for name in ("bad-cron", "bad-zone")}

    assert refused["bad-cron"][0] == "InvalidSchedule"
    assert "spec.schedule.cron[0]" in refused["bad-cron"][1]
    assert refused["bad-zone"][0] == "InvalidSchedule"
    assert "spec.schedule.timeZone" in refused["bad-zone"][1]
    assert "Mars/Phobos" in refused["bad-zone"][1]
    told = tenant.kubectl("get", "events", "--field-selector", "type=Warning", "--output", "jsonpath={..reason}")
    assert sorted(told.split()) == ["InvalidSchedule", "InvalidSchedule"]
    assert tenant.schedules() == []


@pytest.mark.usefixtures("operator")
def test_seconds_and_jitter_that_do_not_fit_the_cron_are_refused_with_their_field(tenant: Tenant) -> None:
    tenant.apply(periodic_job("bad-seconds", schedule={"cron": ["30 2 * * *"], "seconds": "0,60"}))
    tenant.apply(periodic_job("bad-jitter", schedule={"cron": ["*/5 * * * *"], "jitterSeconds": 300}))

    tenant.wait_for("pjob --all", "condition=Ready=False")

    seconds, jitter = _refusal(tenant, "pjob/bad-seconds"), _refusal(tenant, "pjob/bad-jitter")
    assert (seconds[0], jitter[0]) == ("InvalidSchedule", "InvalidSchedule")
    assert "spec.schedule.seconds" in seconds[1]
    assert "spec.schedule.jitterSeconds" in jitter[1]
    assert tenant.schedules() == []


@pytest.mark.parametrize(
    "name",
    [
        *("seconds-without-cron", "phase-above-interval", "jitter-above-interval"),
        *("end-before-start", "start-before-1970", "end-in-9999"),
        *("template-and-reference", "password-as-argument", "delays-reversed", "concurrency-beside-skip"),
    ],
)
def test_example_that_a_rule_of_the_crd_refuses_never_gets_in(tenant: Tenant, name: str) -> None:
    with pytest.raises(CommandError, match="is invalid"):
        tenant.apply_file(_INVALID / f"{name}.yaml")


@pytest.mark.usefixtures("operator_and_worker")
def test_last_good_schedule_runs_on_after_a_bad_edit(tenant: Tenant) -> None:
    tenant.apply(periodic_job("steady"))
    tenant.wait("a first run", lambda: tenant.ledger.runs("steady"))

    tenant.patch("pjob/steady", schedule={"cron": ["0 25 * * *"], "intervalSeconds": None})
    tenant.wait_for("pjob/steady", "condition=Ready=False")
    runs = len(tenant.ledger.runs("steady"))

    tenant.wait("two more runs", lambda: len(tenant.ledger.runs("steady")) >= runs + 2)
    assert tenant.table("pjob")["steady"]["SCHEDULE"] == "every 1s"

    tenant.patch("pjob/steady", schedule={"cron": None, "intervalSeconds": 3600})
    tenant.wait_for("pjob/steady", "condition=Ready")
    assert tenant.table("pjob")["steady"]["SCHEDULE"] == "every 1h"


@pytest.mark.usefixtures("operator_and_worker")
def test_unknown_task_is_told_and_waits(tenant: Tenant) -> None:
    tenant.apply_file(_INVALID / "unknown-task.yaml")
    tenant.wait_for("sjob/unknown-task", "condition=Ready")
    tenant.apply(scheduled_job("later"))
    tenant.wait_for("sjob/later", "condition=Complete")

    assert tenant.row("unknown-task")["status"] == "pending"
    told = tenant.kubectl("get", "events", "--field-selector", "reason=UnknownTask", "--output", "jsonpath={..message}")
    assert "examples.no_such_task" in told


def _refusal(tenant: Tenant, which: str) -> tuple[str, str]:
    ready, stalled = tenant.condition(which, "Ready"), tenant.condition(which, "Stalled")
    assert stalled["status"] == "True"
    assert stalled["message"] == ready["message"]
    return ready["reason"], ready["message"]
