"""The operator comes and goes: schedules run on, nothing runs twice, and what was missed is made up for."""

from __future__ import annotations

import json
from time import monotonic
from typing import TYPE_CHECKING

import pytest

from support.objects import FAR_AWAY, periodic_job, scheduled_job, task
from support.programs import Program
from support.sizes import sized

if TYPE_CHECKING:
    from collections.abc import Callable

    from cluster.progress import Progress
    from support.programs import StartProgram
    from support.tenants import Tenant

_FEW_TICKS, _MANY_TICKS = 3, sized(3, full=600)  # one a second


@pytest.mark.timeout(2 * _MANY_TICKS + 120)
@pytest.mark.parametrize(
    ("end", "ticks"),
    [(Program.terminate, _FEW_TICKS), (Program.kill, _MANY_TICKS)],
    ids=["SIGTERM", "SIGKILL"],
)
def test_schedule_runs_on_without_operator_and_nothing_runs_twice(
    tenant: Tenant,
    start_operator: StartProgram,
    start_worker: StartProgram,
    progress: Progress,
    end: Callable[[Program], None],
    ticks: int,
) -> None:
    operator = start_operator()
    start_worker()
    tenant.apply(
        periodic_job("steady"),
        scheduled_job("once"),
        scheduled_job("deleted", runAt=FAR_AWAY),
        scheduled_job("vanished", runAt=FAR_AWAY),
    )
    tenant.wait_for("sjob/once", "condition=Complete")
    tenant.wait_for("sjob/deleted sjob/vanished pjob/steady", "condition=Ready")

    end(operator)
    ended_at = monotonic()
    runs = len(tenant.ledger.runs("steady"))
    tenant.kubectl("delete", "sjob/deleted", "--wait=false")  # its finalizer holds it
    _take_away(tenant, "sjob/vanished")
    tenant.wait(
        f"{ticks} runs without an operator",
        lambda: len(tenant.ledger.runs("steady")) >= runs + ticks,
        timeout_seconds=2 * ticks + 10,
    )
    progress.say(f"{ticks} runs, one a second, in {monotonic() - ended_at:.0f} s without an operator")
    assert {tenant.row(name)["status"] for name in ("deleted", "vanished")} == {"pending"}

    start_operator()
    runs = len(tenant.ledger.runs("steady"))
    tenant.wait("the sweep", lambda: tenant.row("vanished")["status"] == "cancelled")
    tenant.wait_for("sjob/deleted", "delete")
    assert tenant.row("deleted")["status"] == "cancelled"
    tenant.apply(scheduled_job("next"))
    tenant.wait_for("sjob/next", "condition=Complete")
    tenant.wait("two runs with it", lambda: len(tenant.ledger.runs("steady")) >= runs + 2)

    tenant.patch("pjob/steady", suspend=True)
    tenant.wait_for("pjob/steady", "condition=Suspended")
    tenant.wait("its last run", lambda: all(row["finished_at"] for row in tenant.rows("steady")))
    ran = [row for row in tenant.rows("steady") if row["status"] == "completed"]
    assert len(tenant.ledger.runs("steady")) == len(ran) == len({row["tick_at"] for row in ran})
    assert len(tenant.ledger.runs("once")) == len(tenant.rows("once")) == 1


def test_job_that_started_before_its_edit_stays_as_it_was(
    tenant: Tenant, start_operator: StartProgram, start_worker: StartProgram
) -> None:
    operator = start_operator()
    tenant.apply(scheduled_job("busy", task("hold", label="busy")))
    tenant.wait_for("sjob/busy", "condition=Ready")
    operator.terminate()
    start_worker()
    tenant.wait("its start, of which no status tells", lambda: tenant.ledger.runs("busy"))

    tenant.patch("sjob/busy", template=task("record", label="other"))
    start_operator()

    tenant.wait_for("sjob/busy", "condition=Ready=False")
    assert tenant.condition("sjob/busy", "Ready")["reason"] == "AlreadyStarted"
    assert tenant.condition("sjob/busy", "Stalled")["status"] == "True"
    tenant.ledger.release("busy")
    tenant.wait_for("sjob/busy", "condition=Complete")
    assert [run.label for run in tenant.ledger.all_runs()] == ["busy"]


def _take_away(tenant: Tenant, which: str) -> None:
    """Delete it without asking those who hold it."""
    tenant.kubectl("delete", which, "--wait=false")
    patch = {"metadata": {"finalizers": None}}
    tenant.kubectl("patch", which, "--type=merge", "--patch", json.dumps(patch))
    tenant.wait_for(which, "delete")
