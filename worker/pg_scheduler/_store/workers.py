"""Rows of ``scheduler_workers``: the lease of a process.

Invariant: a worker that a sweep has marked dead never lives again under that id.
"""

from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime

from pg_scheduler._store.database import Database
from pg_scheduler._store.driver import Connection
from pg_scheduler._store.driver_errors import translated
from pg_scheduler._store.queries import QUERIES

RETIRED_REASON = "no living worker has declared it for a day"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerCard:
    """What a worker says of itself when it registers; what it does not know is None."""

    worker_id: str
    tenant: str
    queues: Sequence[str]
    schedules: Sequence[str]
    slots: int
    version: str
    pod: str | None
    pod_uid: str | None
    pod_namespace: str | None = None
    node: str | None = None
    pool: str | None = None


@dataclass(frozen=True, slots=True)
class Suspect:
    """A worker without a heartbeat backend; ``is_new`` when it was this look that cut its lease."""

    worker_id: str
    is_new: bool
    seconds_left: float


class LeaseStore:
    """The heartbeat's statements, on its own connection in its own thread.

    Attributes:
        server_started_at: when the server started that answered the last ``register`` or ``beat``.
    """

    def __init__(self, connection: Connection, *, place: str) -> None:
        self._connection = connection
        self._place = place
        self.server_started_at: datetime | None = None

    def on_lost(self, callback: Callable[[], None]) -> None:
        """Call back, in the connection's loop, as soon as the connection is known to be gone."""
        self._connection.add_termination_listener(lambda _: callback())

    async def register(self, card: WorkerCard, tasks: Sequence[str], lease_seconds: float) -> None:
        """Make the row, alive and with a full lease; its queues are served from then on."""
        with self._translated():
            self.server_started_at = await self._connection.fetchval(
                QUERIES["register_worker"],
                card.worker_id,
                card.tenant,
                list(card.queues),
                list(tasks),
                list(card.schedules),
                card.slots,
                lease_seconds,
                card.pod,
                card.pod_uid,
                card.version,
                self._connection.get_server_pid(),
                card.pod_namespace,
                card.node,
                card.pool,
            )
            await self._connection.execute(QUERIES["serve_queues"], card.worker_id)

    async def beat(self, worker_id: str, lease_seconds: float, tasks: Sequence[str]) -> set[int] | None:
        """Tokens that the database thinks this worker holds; None when it has been marked dead."""
        with self._translated():
            reply = await self._connection.fetchrow(
                QUERIES["beat"], worker_id, lease_seconds, list(tasks), self._connection.get_server_pid()
            )
            await self._connection.execute(QUERIES["serve_queues"], worker_id)
        if reply is None:
            return None
        tokens, self.server_started_at = reply
        return set(tokens)

    async def held_tokens(self, worker_id: str) -> set[int]:
        """Tokens that the database thinks this worker holds, without renewing anything."""
        with self._translated():
            return {row["token"] for row in await self._connection.fetch(QUERIES["held_tokens"], worker_id)}

    async def release_ghosts(self, worker_id: str, tokens: Collection[int]) -> int:
        """Hand back claims that this process never learnt of; how many rows."""
        with self._translated():
            return len(await self._connection.fetch(QUERIES["release_ghosts"], worker_id, list(tokens)))

    async def retire(self, worker_id: str) -> None:
        """End the lease now: the process ends in order."""
        with self._translated():
            await self._connection.execute(QUERIES["retire_worker"], worker_id)

    def _translated(self) -> AbstractContextManager[None]:
        return translated(self._place, self._connection)


@dataclass(frozen=True, slots=True)
class SweepNeeds:
    """Whether there are late workers, jobs of dead ones, coroutines that stop, waiting jobs, rows of the long dead."""

    late: bool
    orphans: bool
    stopping: bool
    waiting: bool
    buried: bool


class WorkerStore:
    """What a sweep does to the rows of others."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def sweep_needs(self) -> SweepNeeds:
        """What a sweep would find."""
        (row,) = await self._db.fetch(QUERIES["sweep_needs"])
        return SweepNeeds(*row)

    async def mark_dead(self, server_started_at: datetime | None = None) -> list[str]:
        """Ids of the workers whose lease has run out, marked now; nobody if the server has started anew since then."""
        return [row["id"] for row in await self._db.fetch(QUERIES["mark_dead"], server_started_at)]

    async def suspect(self, own_id: str, grace_seconds: float, server_started_at: datetime) -> list[Suspect]:
        """Whose heartbeat backend is gone, with at most ``grace_seconds`` of lease left from now on."""
        rows = await self._db.fetch(QUERIES["suspect_workers"], own_id, grace_seconds, server_started_at)
        return [Suspect(*row) for row in rows]

    async def bury_predecessors(self, pod_uid: str, tenant: str) -> list[str]:
        """Ids of the earlier processes of this pod, marked dead now."""
        return [row["id"] for row in await self._db.fetch(QUERIES["bury_predecessors"], pod_uid, tenant)]

    async def retire_schedules(self) -> list[str]:
        """Retire the schedules of code that no worker has declared for a day; which."""
        return [row["source_uid"] for row in await self._db.fetch(QUERIES["retire_schedules"], RETIRED_REASON)]

    async def forget_dead(self) -> None:
        """Drop the rows of workers that died more than a day ago."""
        await self._db.fetch(QUERIES["forget_dead_workers"])
