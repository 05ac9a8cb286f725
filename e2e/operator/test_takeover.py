"""Several operators, one Lease: one serves, and another goes on where it is lost."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

import pytest

from support.objects import FAR_AWAY, scheduled_job
from support.programs import Program

if TYPE_CHECKING:
    from collections.abc import Callable

    from cluster.progress import Progress
    from support.programs import StartProgram
    from support.tenants import Tenant

# The Lease's 15 s, the start of the watch and its lists.
_TAKEN_OVER_SECONDS = 60


@pytest.mark.parametrize("end", [Program.terminate, Program.kill], ids=["SIGTERM", "SIGKILL"])
def test_standby_goes_on_where_the_leader_is_lost(
    tenant: Tenant,
    start_operator: StartProgram,
    operator_rights: str,
    progress: Progress,
    end: Callable[[Program], None],
) -> None:
    leader = start_operator(everywhere=True, PGSCHEDULER_LEASE_NAMESPACE=operator_rights)
    standby = start_operator(everywhere=True, wait=False, PGSCHEDULER_LEASE_NAMESPACE=operator_rights)
    standby.says("standing by")
    tenant.apply(scheduled_job("first", runAt=FAR_AWAY))
    tenant.wait_for("sjob/first", "condition=Ready")
    assert "serving" not in standby.log

    end(leader)
    ended_at = monotonic()
    tenant.patch("sjob/first", suspend=True)
    tenant.apply(scheduled_job("second", runAt=FAR_AWAY))

    standby.says("serving", timeout_seconds=_TAKEN_OVER_SECONDS)
    progress.say(f"leader lost: another serves {monotonic() - ended_at:.1f} s after")
    tenant.wait_for("sjob/first", "condition=Suspended", timeout_seconds=_TAKEN_OVER_SECONDS)
    tenant.wait_for("sjob/second", "condition=Ready", timeout_seconds=_TAKEN_OVER_SECONDS)
