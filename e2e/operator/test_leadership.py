"""Several operators, one Lease: another takes over soon after an orderly end, and in time after a death."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from support.objects import FAR_AWAY, scheduled_job
from support.programs import Program

if TYPE_CHECKING:
    from collections.abc import Callable

    from cluster.progress import Progress
    from support.programs import StartProgram
    from support.tenants import Tenant

_LEASE_SECONDS, _LOOK_SECONDS, _START_SECONDS = 15, 2, 10
_ROLE = "pgscheduler-operator"


@pytest.fixture
def start_candidate(tenant: Tenant, start_operator: StartProgram) -> Callable[[], Program]:
    """An operator that stands for election in the test's namespace."""
    return lambda: start_operator(wait=False, PGSCHEDULER_LEASE_NAMESPACE=tenant.name)


@pytest.mark.parametrize(
    ("end", "within_seconds"),
    [(Program.terminate, _LOOK_SECONDS), (Program.kill, _LEASE_SECONDS + _LOOK_SECONDS)],
    ids=["SIGTERM", "SIGKILL"],
)
def test_standby_takes_over(
    tenant: Tenant,
    start_candidate: Callable[[], Program],
    progress: Progress,
    end: Callable[[Program], None],
    within_seconds: float,
) -> None:
    first = start_candidate()
    first.says("serving")
    second = start_candidate()
    second.says("standing by: ")
    assert "serving" not in second.log

    end(first)
    tenant.apply(scheduled_job("meanwhile", runAt=FAR_AWAY))
    ended_at = time.monotonic()
    second.says("serving", timeout_seconds=within_seconds + _START_SECONDS)
    took = time.monotonic() - ended_at

    progress.say(f"takeover after {end.__name__}: {took:.1f} s")
    tenant.wait_for("sjob/meanwhile", "condition=Ready")
    holder = tenant.get(f"lease/{_ROLE}")["spec"]
    assert holder["leaseTransitions"] == 2


def test_operator_whose_lease_is_taken_exits_and_says_so_once(
    tenant: Tenant, start_candidate: Callable[[], Program]
) -> None:
    operator = start_candidate()
    operator.says("serving")
    operator.is_expected = False

    tenant.kubectl("patch", f"lease/{_ROLE}", "--type=merge", "--patch", '{"spec": {"holderIdentity": "somebody"}}')

    assert operator.component.process.wait(_LEASE_SECONDS) == 75
    assert operator.log.count("PGS-048 the Lease is held by somebody") == 1
