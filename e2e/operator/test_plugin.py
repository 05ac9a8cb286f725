"""kubectl pgscheduler, by real kubectl against the real API server, with the rights that its reference page names."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from support.objects import FAR_AWAY, periodic_job, scheduled_job, task, worker_pool

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.tenants import Tenant

_PAGE = Path(__file__).parents[2] / "docs" / "reference" / "kubectl-plugin.md"
_ACCOUNT = "ann"
_YEARLY = {"schedule": {"cron": ["0 2 24 12 *"]}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    exit_code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def _run(tenant: Tenant, *arguments: str, kubeconfig: Path | None = None) -> Ended:
    given = [] if kubeconfig is None else ["--kubeconfig", str(kubeconfig)]
    ended = subprocess.run(
        [sys.executable, "-m", "pg_scheduler_operator.plugin", *arguments, "-n", tenant.name, *given],
        env=os.environ | tenant.cluster.env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert "Traceback" not in ended.stderr, ended.stderr
    return Ended(exit_code=ended.returncode, out=ended.stdout, err=ended.stderr)


@pytest.fixture
def plugin(tenant: Tenant) -> Callable[..., Ended]:
    """As the cluster's admin."""

    def run(*arguments: str) -> Ended:
        ended = _run(tenant, *arguments)
        assert ended.exit_code == 0, ended
        return ended

    return run


@pytest.fixture
def as_ann(tenant: Tenant) -> Callable[..., Ended]:
    """As somebody who has one of the roles that the page shows, and no other right."""

    def run(role: str, *arguments: str) -> Ended:
        documents = re.findall(r"^```yaml\n(.*?)^```", _PAGE.read_text(), re.MULTILINE | re.DOTALL)
        (shown,) = (found for text in documents if (found := yaml.safe_load(text))["metadata"]["name"] == role)
        metadata = {"name": _ACCOUNT}
        tenant.apply(
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata},
            shown,
            {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "RoleBinding",
                "metadata": {"name": f"ann-{role}"},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": role},
                "subjects": [{"kind": "ServiceAccount", "name": _ACCOUNT, "namespace": tenant.name}],
            },
        )
        kubeconfig = tenant.cluster.service_account_kubeconfig(tenant.name, _ACCOUNT)
        return _run(tenant, *arguments, kubeconfig=kubeconfig)

    return run


@pytest.mark.usefixtures("operator")
def test_schedules_are_shown_as_they_are(tenant: Tenant, plugin: Callable[..., Ended]) -> None:
    tenant.apply(
        periodic_job("yearly", **_YEARLY),
        periodic_job("hourly", schedule={"intervalSeconds": 3600}),
        periodic_job("typo", schedule={"cron": ["0 25 * * *"]}),
        worker_pool("reports", target="nowhere", mode="Operator", maxReplicas=3),
    )
    for name, condition in (("pjob/yearly", "Ready"), ("pjob/hourly", "Ready"), ("pjob/typo", "Stalled")):
        tenant.wait_for(name, f"condition={condition}")
    tenant.wait_for("wpool/reports", "condition=Stalled")

    status = plugin("status", "-o", "json").json
    yearly = plugin("next", "pjob", "yearly", "--count", "2", "-o", "json").json
    hourly = plugin("next", "hourly", "--count", "7", "-o", "json").json
    simulated = plugin("simulate", "--from", "2026-12-24T00:00Z", "--to", "2026-12-25T00:00Z", "-o", "json")

    assert {(each["object"], each["problem"]) for each in status["problems"]} >= {
        ("pjob/typo", "Stalled"),
        ("wpool/reports", "Stalled"),
    }
    assert "nobody has held the Lease in namespace pgscheduler" in status["operators"][0]
    assert {each["object"] for each in status["next"]} == {"pjob/yearly", "pjob/hourly"}
    assert [each["at"][4:] for each in yearly] == ["-12-24T02:00:00Z"] * 2
    assert [each["local"] for each in hourly[:5]] == tenant.get("pjob/hourly")["status"]["nextScheduleTimes"]
    schedules = simulated.json["namespaces"][0]["schedules"]
    assert {each["name"]: each["planned"] for each in schedules}[f"{tenant.name}/yearly"] == 1
    assert f"PeriodicJob {tenant.name}/typo is left out: hour '25'" in simulated.err


@pytest.mark.usefixtures("operator")
def test_suspended_schedule_is_explained_and_resumed(tenant: Tenant, plugin: Callable[..., Ended]) -> None:
    tenant.apply(periodic_job("yearly", **_YEARLY), scheduled_job("later", runAt=FAR_AWAY))
    tenant.wait_for("pjob/yearly", "condition=Ready")

    plugin("suspend", "pjob/yearly", "--reason", "stock-taking", "--dry-run")
    assert not tenant.get("pjob/yearly")["spec"]["suspend"]
    plugin("suspend", "pjob/yearly", "--reason", "stock-taking")
    plugin("suspend", "sjob/later")
    tenant.wait_for("pjob/yearly", "condition=Suspended")

    answer, *_ = plugin("explain", "pjob/yearly").out.splitlines()
    assert answer == f"pjob/yearly in {tenant.name}: it is suspended by its spec: stock-taking"
    assert "suspended already" in plugin("suspend", "pjob/yearly").out
    plugin("resume", "pjob/yearly")
    plugin("resume", "sjob/later")
    tenant.wait_for("pjob/yearly", "condition=Suspended=False")
    assert not tenant.get("pjob/yearly")["spec"].get("suspendReason")
    assert [each["cause"] for each in plugin("explain", "sjob/later", "-o", "json").json["findings"]] == ["NotDue"]


@pytest.mark.usefixtures("operator_and_worker")
def test_halted_schedule_ticks_again_when_it_is_resumed(tenant: Tenant, plugin: Callable[..., Ended]) -> None:
    tenant.apply(periodic_job("sore", task("fail", label="sore"), suspendAfterFailures=1))
    tenant.wait_for("pjob/sore", "condition=Suspended")
    assert plugin("explain", "pjob/sore", "-o", "json").json["findings"][0]["cause"] == "HaltedAfterFailures"
    runs = len(tenant.ledger.runs("sore"))

    plugin("resume", "pjob/sore")

    tenant.wait("it runs again", lambda: len(tenant.ledger.runs("sore")) > runs)


@pytest.mark.usefixtures("operator_and_worker")
def test_extra_runs_are_made_and_waited_for(tenant: Tenant, plugin: Callable[..., Ended]) -> None:
    tenant.apply(periodic_job("yearly", **_YEARLY))
    tenant.wait_for("pjob/yearly", "condition=Ready")

    (triggered,) = plugin("trigger", "pjob/yearly", "--wait", "-o", "json").json
    (again,) = plugin("rerun", triggered["object"], "--wait", "-o", "json").json

    assert triggered["state"] == again["state"] == "Complete"
    assert triggered["object"] != again["object"]
    assert len(tenant.ledger.runs("yearly")) == 2
    assert "it has ended" in plugin("explain", again["object"]).out


@pytest.mark.usefixtures("operator_and_worker")
def test_backfill_makes_each_tick_once(tenant: Tenant, plugin: Callable[..., Ended]) -> None:
    tenant.apply(periodic_job("yearly", **_YEARLY))
    tenant.wait_for("pjob/yearly", "condition=Ready")
    span = ("backfill", "pjob/yearly", "--from", "2020-01-01T00:00Z", "--to", "2023-01-01T00:00Z")

    asked = _run(tenant, *span)
    dry = plugin(*span, "--dry-run", "-o", "json").json
    made = plugin(*span, "--yes", "-o", "json").json
    again = plugin(*span, "--yes", "-o", "json").json

    assert asked.exit_code == 2
    assert [each["result"] for each in dry] == ["would be created"] * 3
    assert [each["object"] for each in made] == [f"sjob/yearly-{year}1224t020000z" for year in (2020, 2021, 2022)]
    assert [each["result"] for each in again] == ["exists"] * 3
    tenant.wait_for("sjob --all", "condition=Complete")
    assert len(tenant.ledger.runs("yearly")) == 3
    assert tenant.row("yearly-20201224t020000z")["execution_time"] == datetime(2020, 12, 24, 2, tzinfo=UTC)


@pytest.mark.usefixtures("operator_and_worker")
def test_unknown_task_is_explained_by_the_operators_event(tenant: Tenant, plugin: Callable[..., Ended]) -> None:
    tenant.apply(scheduled_job("lost", task("nowhere")))
    tenant.wait_for("sjob/lost", "condition=Ready")

    explained = plugin("explain", "sjob/lost", "-o", "json").json

    assert explained["findings"][0]["cause"] == "TaskUnknown"
    assert explained["chain"]["events"].startswith("UnknownTask: ")


@pytest.mark.usefixtures("operator")
def test_paused_queue_is_explained_by_the_pool_that_pauses_it(tenant: Tenant, plugin: Callable[..., Ended]) -> None:
    reports = worker_pool("reports", target="nowhere", mode="Off")
    reports["spec"]["queues"] = [{"name": "mail", "paused": True}]
    record = task("record", label="held")
    record["spec"]["queue"] = "mail"
    tenant.apply(reports, scheduled_job("held", record))
    tenant.wait_for("sjob/held", "condition=Ready")

    explained = plugin("explain", "sjob/held", "-o", "json").json

    assert explained["findings"][0]["cause"] == "QueuePaused"
    assert explained["chain"]["queue"] == "mail: paused, by wpool/reports"


@pytest.mark.usefixtures("operator_and_worker")
def test_wait_answers_no_for_a_run_that_failed(tenant: Tenant) -> None:
    tenant.apply(scheduled_job("broken", task("fail", label="broken")))
    tenant.wait_for("sjob/broken", "condition=Finished")

    ended = _run(tenant, "rerun", "sjob/broken", "--wait")

    assert ended.exit_code == 1
    assert "Failed" in ended.out
    assert "secret" not in ended.out + ended.err


@pytest.mark.usefixtures("operator")
def test_rights_that_the_page_names_are_enough_and_no_more(tenant: Tenant, as_ann: Callable[..., Ended]) -> None:
    soon = (datetime.now(UTC) + timedelta(days=1)).strftime("%Y-%m-%dT%H:%MZ")
    tenant.apply(periodic_job("yearly", **_YEARLY), scheduled_job("later", runAt=FAR_AWAY))
    tenant.wait_for("pjob/yearly", "condition=Ready")
    looks = [("status",), ("next", "yearly"), ("simulate", "--to", soon), ("explain", "sjob/later")]
    writes = [("suspend", "pjob/yearly"), ("suspend", "sjob/later"), ("trigger", "yearly")]

    seen = [as_ann("pgscheduler-look", *command) for command in looks]
    refused = [as_ann("pgscheduler-look", *command) for command in writes]
    done = [as_ann("pgscheduler-run", *command) for command in writes]

    assert [ended.exit_code for ended in seen] == [0] * 4, seen
    assert "operator  unknown: you may not read Leases" in seen[0].out
    assert [(ended.exit_code, "PGS-057" in ended.err) for ended in refused] == [(1, True)] * 3
    assert [ended.exit_code for ended in done] == [0] * 3, done
    assert _run(tenant, "explain", "sjob/nowhere").exit_code == 1
