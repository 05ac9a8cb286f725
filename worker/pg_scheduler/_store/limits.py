"""Rows of ``scheduler_tenant_limits``; the database itself looks after those of jobs, whoever submits."""

from collections.abc import Collection, Mapping

from pg_scheduler._domain.gaps import shortest_gap_seconds
from pg_scheduler._domain.schedules import ScheduleDefinition
from pg_scheduler._store.database import Database
from pg_scheduler._store.driver import Connection
from pg_scheduler._store.queries import QUERIES
from pg_scheduler.errors import TenantLimitExceeded
from pg_scheduler.tenant_limits import TenantLimits


class LimitStore:
    """The statements of ``sql/limits.sql``."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def set(self, cluster: str, limits: Mapping[str, TenantLimits]) -> list[str]:
        """Store these instead of what the cluster has stored; those whose limits are another cluster's."""
        async with self._db.transaction() as connection:
            await connection.execute(
                QUERIES["set_tenant_limits"],
                cluster,
                list(limits),
                [each.max_pending for each in limits.values()],
                [each.max_rate and each.max_rate.limit for each in limits.values()],
                [each.max_rate and each.max_rate.seconds for each in limits.values()],
                [each.min_interval_seconds for each in limits.values()],
            )
            rows = await connection.fetch(QUERIES["limits_of_others"], cluster, list(limits))
        return [row["tenant"] for row in rows]


async def require_intervals(connection: Connection, definitions: Collection[ScheduleDefinition]) -> None:
    """Refuse rules that tick more often than their tenant may.

    Raises:
        TenantLimitExceeded: for the first of them.
    """
    if not definitions:
        return
    tenants = {definition.key.tenant for definition in definitions}
    rows = await connection.fetch(QUERIES["shortest_intervals"], list(tenants))
    limits: dict[str, int] = {row["tenant"]: row["min_interval_seconds"] for row in rows}
    for definition in definitions:
        limit = limits.get(definition.key.tenant)
        if limit is not None and shortest_gap_seconds(definition.rule) < limit:
            raise TenantLimitExceeded(
                f"tenant {definition.key.tenant!r} is at its limit minIntervalSeconds",
                limit="minIntervalSeconds",
                why=f"{definition.name} would tick {shortest_gap_seconds(definition.rule)} s after a tick, "
                f"and {limit} s is the least",
                fix="let it tick less often, or have whoever runs the operator lower minIntervalSeconds",
            )
