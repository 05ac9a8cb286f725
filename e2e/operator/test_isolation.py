"""A namespace is a tenant: what is written in one reaches no worker of another."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cluster.processes import CommandError
from support.objects import scheduled_job

if TYPE_CHECKING:
    from collections.abc import Callable

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
