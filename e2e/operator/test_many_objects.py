"""Thousands of PeriodicJobs: rows within seconds, then one status write each, and a restart that writes nothing."""

from __future__ import annotations

from collections import Counter
from time import monotonic
from typing import TYPE_CHECKING

import pytest

from support import crowds, served
from support.objects import periodic_job
from support.sizes import sized

if TYPE_CHECKING:
    from cluster.progress import Progress
    from support.programs import Program, StartProgram
    from support.tenants import Tenant

_OBJECTS = sized(600, full=10_000)
_ROWS_SECONDS = sized(120, full=30)
_STATUSES_SECONDS = sized(180, full=430)
"""The first 400 at once, then 50 a second: 4, in full 200."""
_MEMORY_MB = 250
_IDLE_SHARE = 0.1


@pytest.mark.timeout(sized(600, full=1200))
def test_many_periodic_jobs_cost_one_write_each_and_a_restart_none(
    tenant: Tenant, start_operator: StartProgram, progress: Progress
) -> None:
    names = [f"job-{number}" for number in range(_OBJECTS)]
    crowds.create(tenant, (periodic_job(name, schedule={"cron": ["0 0 1 1 *"]}) for name in names))
    statuses_before = served.status_writes(tenant.cluster, "periodicjobs")

    def statuses() -> int:
        return served.status_writes(tenant.cluster, "periodicjobs") - statuses_before

    began_at = monotonic()
    first = start_operator()
    tenant.wait("all rows", lambda: _rows(tenant) == _OBJECTS, timeout_seconds=_ROWS_SECONDS)
    rows_seconds, rows_cpu_seconds, told_by_then = monotonic() - began_at, first.cpu_seconds, statuses()
    tenant.wait("all statuses", lambda: statuses() >= _OBJECTS, timeout_seconds=_STATUSES_SECONDS)
    progress.say(
        f"{_OBJECTS} PeriodicJobs, cold start: rows after {rows_seconds:.1f} s and {rows_cpu_seconds:.1f} s of CPU"
        f" ({told_by_then} statuses by then), statuses after {monotonic() - began_at:.1f} s and"
        f" {first.cpu_seconds:.1f} s of CPU, at most {first.peak_memory_mb:.0f} MB"
    )
    _wait_until_idle(tenant, first)
    assert statuses() == _OBJECTS
    assert _names_not_held(tenant) == []
    assert first.peak_memory_mb < _MEMORY_MB
    first.terminate()

    rows, writes = _row_versions(tenant), _writes(tenant)
    tenant.patch(f"pjob/{names[0]}", suspend=True)
    began_at = monotonic()
    second = start_operator()
    tenant.wait_for(f"pjob/{names[0]}", "condition=Suspended", timeout_seconds=_ROWS_SECONDS)
    _wait_until_idle(tenant, second)
    progress.say(
        f"restart: idle after {monotonic() - began_at:.1f} s, {second.cpu_seconds:.1f} s of CPU,"
        f" at most {second.peak_memory_mb:.0f} MB"
    )
    assert second.peak_memory_mb < _MEMORY_MB
    second.terminate()  # a session tells its statistics at its end at the latest

    assert statuses() == _OBJECTS + 1
    assert {name for name, version in _row_versions(tenant).items() if rows[name] != version} == {names[0]}
    assert _writes(tenant) - writes == {"scheduler_schedules": 1}


def test_object_that_goes_before_it_is_held_takes_its_row_along(tenant: Tenant, start_operator: StartProgram) -> None:
    """Rows come before finalizers, which stand in one line with the statuses."""
    start_operator(PGSCHEDULER_STATUS_WRITES_PER_SECOND="0.001", PGSCHEDULER_STATUS_WRITES_BURST="1")
    tenant.apply(*(periodic_job(name, schedule={"cron": ["0 0 1 1 *"]}) for name in ("one", "two", "three")))
    tenant.wait("all rows", lambda: _rows(tenant) == 3)
    tenant.wait("one is held", lambda: len(_names_not_held(tenant)) == 2)
    gone, stays = _names_not_held(tenant)

    tenant.delete(f"pjob/{gone}")

    tenant.wait("its row goes", lambda: gone not in tenant.schedules())
    assert stays in tenant.schedules()


def _names_not_held(tenant: Tenant) -> list[str]:
    found = crowds.bodies(tenant, "PeriodicJob")
    return [body["metadata"]["name"] for body in found if not body["metadata"].get("finalizers")]


def _rows(tenant: Tenant) -> int:
    return len(tenant.schedules())


def _row_versions(tenant: Tenant) -> dict[str, str]:
    found = tenant.database.fetch(
        "SELECT source_name, ctid::text || xmin::text AS version FROM scheduler_schedules WHERE tenant = $1",
        tenant.name,
    )
    return {row["source_name"]: row["version"] for row in found}


def _writes(tenant: Tenant) -> Counter[str]:
    """How many rows of each table were ever written, but for the one that says every ten seconds: I live."""
    found = tenant.database.fetch(
        "SELECT relname, n_tup_ins + n_tup_upd + n_tup_del AS n FROM pg_stat_user_tables"
        " WHERE relname <> 'scheduler_clusters'"
    )
    return Counter({row["relname"]: row["n"] for row in found})


def _wait_until_idle(tenant: Tenant, program: Program) -> None:
    """It has done what there was to do: what it uses is a small share of a core."""
    at, used = monotonic(), program.cpu_seconds

    def is_idle() -> bool:
        nonlocal at, used
        seconds = monotonic() - at
        if seconds < 1:
            return False
        share = (program.cpu_seconds - used) / seconds
        at, used = monotonic(), program.cpu_seconds
        return share < _IDLE_SHARE

    tenant.wait(f"{program.component.name} idle", is_idle, timeout_seconds=120)
