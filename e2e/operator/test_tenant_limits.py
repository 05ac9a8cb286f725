"""What the operator's setting allows namespaces: who asks for more is told so in its object, nobody else notices."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from support.objects import FAR_AWAY, periodic_job, scheduled_job

if TYPE_CHECKING:
    from collections.abc import Callable

    from cluster.cluster import Manifest
    from support.programs import StartProgram
    from support.tenants import Tenant


@dataclass(frozen=True, kw_only=True)
class _Case:
    """A limit, an object that it allows, one beside that which it does not, and what one can do."""

    limit: str
    value: Any
    within: Manifest
    beyond: Manifest
    remedy: str = "raise"


def _job(name: str) -> Manifest:
    return scheduled_job(name, runAt=FAR_AWAY)


def _schedule(name: str, seconds: int) -> Manifest:
    return periodic_job(name, schedule={"intervalSeconds": seconds})


_CASES = [
    _Case(limit="maxPending", value=1, within=_job("waits"), beyond=_job("waits-too")),
    _Case(
        limit="maxRate",
        value={"limit": 1, "perSeconds": 3600},
        within=_job("submitted"),
        beyond=_job("submitted-too"),
    ),
    _Case(
        limit="minIntervalSeconds",
        value=60,
        within=_schedule("seldom", 60),
        beyond=_schedule("often", 59),
        remedy="lower",
    ),
]


def test_who_asks_for_more_than_its_limit_is_told_the_remedy_and_others_go_on(
    tenant: Tenant, new_tenant: Callable[[], Tenant], start_operator: StartProgram
) -> None:
    limited = {case.limit: new_tenant() for case in _CASES}
    limits = {limited[case.limit].name: {case.limit: case.value} for case in _CASES}
    start_operator(everywhere=True, PGSCHEDULER_TENANT_LIMITS=json.dumps(limits))

    for case in _CASES:
        _ask_for(case, tenant)
        tenant.wait_for(_which(case.beyond), "condition=Ready")
        _ask_for(case, limited[case.limit])
        limited[case.limit].wait_for(_which(case.beyond), "condition=Ready=False")

        told = limited[case.limit].condition(_which(case.beyond), "Ready")
        assert told["reason"] == "TenantLimit"
        assert f"is at its limit {case.limit}" in told["message"]
        assert f"have whoever runs the operator {case.remedy} {case.limit}" in told["message"]
        assert limited[case.limit].condition(_which(case.within), "Ready")["status"] == "True"
        assert _stored(limited[case.limit]) == [case.within["metadata"]["name"]]


def _ask_for(case: _Case, tenant: Tenant) -> None:
    tenant.apply(case.within)
    tenant.wait_for(_which(case.within), "condition=Ready")
    tenant.apply(case.beyond)


def _which(manifest: Manifest) -> str:
    return f"{manifest['kind']}/{manifest['metadata']['name']}".lower()


def _stored(tenant: Tenant) -> list[str]:
    """The names of the objects that have a row."""
    jobs = tenant.database.fetch(
        "SELECT source_name FROM scheduled_jobs WHERE tenant = $1 AND source_kind = 'ScheduledJob'", tenant.name
    )
    return sorted([*(row["source_name"] for row in jobs), *tenant.schedules()])
