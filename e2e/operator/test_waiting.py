"""What `kubectl wait` waits for, and what suspending and cancelling do."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from support.objects import FAR_AWAY, periodic_job, scheduled_job, task

if TYPE_CHECKING:
    from support.tenants import Tenant


@pytest.mark.usefixtures("operator_and_worker")
def test_wait_ends_both_ways(tenant: Tenant) -> None:
    tenant.apply(scheduled_job("good"), scheduled_job("bad", task("fail", label="bad")))

    tenant.wait_for("sjob/good", "condition=Complete")
    tenant.wait_for("sjob/bad", "condition=Failed")
    tenant.wait_for("sjob/good sjob/bad", "condition=Finished")

    assert tenant.condition("sjob/good", "Failed")["status"] == "False"
    assert tenant.condition("sjob/bad", "Complete")["status"] == "False"
    assert tenant.condition("sjob/good", "Finished")["reason"] == "Complete"
    assert tenant.condition("sjob/bad", "Finished")["reason"] == "Failed"
    failed = tenant.get("sjob/bad")["status"]
    assert (failed["lastError"]["type"], failed["lastError"]["code"]) == ("LookupError", "PGS-066")
    assert "secret text" not in str(failed)  # it stays in the database


@pytest.mark.usefixtures("operator_and_worker")
def test_suspended_job_waits_until_it_is_resumed(tenant: Tenant) -> None:
    tenant.apply(scheduled_job("held", suspend=True))
    tenant.wait_for("sjob/held", "condition=Suspended")
    tenant.apply(scheduled_job("later"))
    tenant.wait_for("sjob/later", "condition=Complete")
    assert tenant.ledger.runs("held") == []
    assert tenant.table("sjob")["held"]["STATE"] == "Suspended"

    tenant.patch("sjob/held", suspend=False)

    tenant.wait_for("sjob/held", "condition=Complete")
    assert tenant.condition("sjob/held", "Suspended")["status"] == "False"
    assert len(tenant.ledger.runs("held")) == 1


@pytest.mark.usefixtures("operator_and_worker")
def test_suspended_schedule_fires_again_when_it_is_resumed(tenant: Tenant) -> None:
    tenant.apply(periodic_job("paused"), periodic_job("clock"))
    tenant.wait("a run", lambda: tenant.ledger.runs("paused"))

    tenant.patch("pjob/paused", suspend=True)
    tenant.wait_for("pjob/paused", "condition=Suspended")
    started, ticks = len(tenant.ledger.runs("paused")), len(tenant.ledger.runs("clock"))
    tenant.wait("three ticks of another", lambda: len(tenant.ledger.runs("clock")) >= ticks + 3)
    runs = len(tenant.ledger.runs("paused"))
    assert runs <= started + 1  # one may have been claimed before
    assert tenant.table("pjob")["paused"]["NEXT"] == ""

    tenant.patch("pjob/paused", suspend=False)
    tenant.wait_for("pjob/paused", "condition=Suspended=False")
    tenant.wait("two more runs", lambda: len(tenant.ledger.runs("paused")) >= runs + 2)
    planned = [row["tick_at"] for row in tenant.rows("paused") if row["status"] != "cancelled"]
    gaps = [(later - earlier).total_seconds() for earlier, later in pairwise(planned)]
    assert max(gaps) >= 3  # what was missed is not caught up with


@pytest.mark.usefixtures("operator")
def test_cancel_ends_a_pending_job(tenant: Tenant) -> None:
    tenant.apply(scheduled_job("unwanted", runAt=FAR_AWAY))
    tenant.wait_for("sjob/unwanted", "condition=Ready")

    tenant.patch("sjob/unwanted", cancel=True)

    tenant.wait_for("sjob/unwanted", "condition=Finished")
    assert tenant.condition("sjob/unwanted", "Finished")["reason"] == "Cancelled"
    assert tenant.row("unwanted")["status"] == "cancelled"


@pytest.mark.usefixtures("operator_and_worker")
def test_cancel_stops_a_running_job(tenant: Tenant) -> None:
    tenant.apply(scheduled_job("busy", task("hold", label="busy")))
    tenant.wait_for("sjob/busy", "condition=Started")

    tenant.patch("sjob/busy", cancel=True)

    tenant.wait_for("sjob/busy", "condition=Finished")
    assert tenant.condition("sjob/busy", "Finished")["reason"] == "Cancelled"
    tenant.wait("its worker reports the end", lambda: tenant.row("busy")["stopping_worker"] is None)
    tenant.ledger.release("busy")
    tenant.apply(scheduled_job("later"))
    tenant.wait_for("sjob/later", "condition=Complete")
    (run,) = tenant.ledger.runs("busy")
    assert not run.has_ended
