"""Whether the objects of a tenant, their statuses and their rows say the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

from support import crowds

if TYPE_CHECKING:
    from cluster.cluster import Manifest
    from support.tenants import Tenant

JOB_KINDS = ("ScheduledJob", "PeriodicJob")
_GENERATIONS = """
SELECT source_uid, source_generation FROM scheduled_jobs
    WHERE tenant = $1 AND source_kind = 'ScheduledJob' AND finished_at IS NULL
UNION ALL SELECT source_uid, source_generation FROM scheduler_schedules WHERE tenant = $1
"""


def stand_as_wanted(tenant: Tenant) -> bool:
    """Each object that has not ended is answered in its last generation, its row has that too, and no other row is."""
    bodies = crowds.bodies(tenant, *JOB_KINDS)
    assert [body["metadata"]["name"] for body in bodies if not _is_answered(body)] == []
    rows = tenant.database.fetch(_GENERATIONS, tenant.name)
    wanted = sorted((body["metadata"]["uid"], body["metadata"]["generation"]) for body in bodies)
    return sorted((row["source_uid"], row["source_generation"]) for row in rows) == wanted


def _is_answered(body: Manifest) -> bool:
    status = body.get("status", {})
    verdicts = {condition["type"]: condition["status"] for condition in status.get("conditions", [])}
    answer = (status.get("observedGeneration"), verdicts.get("Ready"), verdicts.get("Suspended"))
    return answer == (body["metadata"]["generation"], "True", str(body["spec"].get("suspend", False)))
