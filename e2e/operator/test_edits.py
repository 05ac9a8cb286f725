"""Editing a ScheduledJob: one object is one row, and a row that has started stays as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cluster.processes import CommandError
from support.objects import FAR_AWAY, scheduled_job, task

if TYPE_CHECKING:
    from support.tenants import Tenant


@pytest.mark.usefixtures("operator_and_worker")
def test_edit_of_a_pending_job_changes_the_same_row(tenant: Tenant) -> None:
    tenant.apply(scheduled_job("edited", task("record", label="before"), runAt=FAR_AWAY))
    tenant.wait_for("sjob/edited", "condition=Ready")
    before = tenant.row("edited")

    tenant.apply(scheduled_job("edited", task("record", label="after")))
    tenant.wait_for("sjob/edited", "condition=Complete")

    after = tenant.row("edited")
    assert after["job_id"] == before["job_id"] == f"sj-{tenant.get('sjob/edited')['metadata']['uid']}"
    assert after["source_generation"] > before["source_generation"]
    assert [run.label for run in tenant.ledger.all_runs()] == ["after"]


@pytest.mark.usefixtures("operator_and_worker")
def test_edit_of_a_started_job_is_refused_by_the_api_server(tenant: Tenant) -> None:
    tenant.apply(scheduled_job("busy", task("hold", label="busy")))
    tenant.wait_for("sjob/busy", "condition=Started")

    with pytest.raises(CommandError, match="runAt cannot be changed once the job has started"):
        tenant.patch("sjob/busy", template=task("record", label="other"))
    with pytest.raises(CommandError, match="runAt cannot be changed once the job has started"):
        tenant.patch("sjob/busy", runAt=FAR_AWAY)

    tenant.ledger.release("busy")
    tenant.wait_for("sjob/busy", "condition=Complete")
