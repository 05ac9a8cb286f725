"""Canaries in the database's address, in arguments and in an error: they come out nowhere."""

from __future__ import annotations

import json
from secrets import token_hex
from typing import TYPE_CHECKING

from support.objects import periodic_job, scheduled_job, task

if TYPE_CHECKING:
    from support.programs import StartProgram
    from support.tenants import Tenant

_HTTP = "127.0.0.1:0"


def test_secrets_are_in_no_log_status_metric_or_event(
    tenant: Tenant, start_operator: StartProgram, start_worker: StartProgram
) -> None:
    canary = f"canary-{token_hex(8)}"
    programs = start_operator(PGSCHEDULER_HTTP=_HTTP), start_worker(PGSCHEDULER_HTTP=_HTTP)
    tenant.apply(
        scheduled_job("raises", task("fail", label=canary)),
        scheduled_job("misfits", task("record", unknown=canary)),
        scheduled_job("nobodys", {"spec": {"task": "os.system", "args": [canary]}}),
        periodic_job("raises", task("fail", label=canary), schedule={"intervalSeconds": 1}),
    )
    tenant.wait_for("sjob/raises sjob/misfits", "condition=Failed")
    tenant.wait_for("pjob/raises", "condition=LastRunSucceeded=False")
    tenant.wait("an event about the unknown task", lambda: "UnknownTask" in _events(tenant))

    kept = tenant.database.fetch("SELECT message FROM scheduler_attempts")
    told = [program.log for program in programs]
    told += [program.tells("metrics") for program in programs]
    told += [_statuses(tenant), _events(tenant)]

    assert any(canary in row["message"] for row in kept)  # it was there to be told
    assert "LookupError" in told[-2]
    assert [text for text in told for secret in (canary, programs[0].secret) if secret in text] == []


def _statuses(tenant: Tenant) -> str:
    listed = json.loads(tenant.kubectl("get", "sjob,pjob", "--output=json"))["items"]
    return json.dumps([{**one["metadata"], "annotations": {}, "status": one["status"]} for one in listed])


def _events(tenant: Tenant) -> str:
    return tenant.kubectl("get", "events", "--output=json")
