"""Warn, when a worker starts, of what is left of the older package.

Invariant: a warning names what is wrong and what to do; it never keeps a worker from starting.
"""

import logging

from pg_scheduler._store.older_package import OlderPackageStore
from pg_scheduler.tasks import Registry

logger = logging.getLogger("pg_scheduler.engine")


class OlderPackage:
    """One look at the start."""

    def __init__(self, store: OlderPackageStore, registry: Registry, *, tenant: str) -> None:
        self._store = store
        self._registry = registry
        self._tenant = tenant

    async def run_once(self) -> int:
        """Log what is left; how many warnings."""
        return await self._warn_of_sessions() + await self._warn_of_names()

    async def _warn_of_sessions(self) -> int:
        sessions = await self._store.sessions()
        for session in sessions:
            logger.warning(
                "a pg-scheduler 0.2.3 is still connected to this database (pid %d, from %s): the tables are no longer"
                " its own and its statements fail; stop it",
                session.pid,
                session.address,
            )
        return len(sessions)

    async def _warn_of_names(self) -> int:
        unclear = self._registry.unclear_names()
        waiting = await self._store.jobs_waiting(self._tenant, unclear) if unclear else {}
        for name, jobs in waiting.items():
            logger.warning(
                "%d jobs wait for a task %r, and several here are called so: %s; mark the one that is meant"
                " with @task(name=%r)",
                jobs,
                name,
                ", ".join(unclear[name]),
                name,
            )
        return len(waiting)
