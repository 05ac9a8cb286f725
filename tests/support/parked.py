"""Statements that wait for the stepper: it decides when each reaches the database, and whether its answer comes.

Invariant: nothing of the shipped code moves while the stepper works, and the stepper does not while that code moves:
one thread, one statement at a time, so that a run is the same again from its seed. What statements ask the server about
time, backends and its own start is answered by the stepper: ``STAND_INS`` puts functions of the same names before
PostgreSQL's.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

from pg_scheduler._store.clock import clock_saying
from pg_scheduler._store.database import Database
from pg_scheduler._store.queries import QUERIES
from pg_scheduler.errors import DatabaseUnreachable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import asyncpg

    from pg_scheduler._store.database import Answered
    from pg_scheduler._store.driver import Connection

SURFACE = {
    "scheduler_enqueue": "SELECT scheduler_enqueue($2, args => $3, run_at => $4, job_id => $1,"
    " on_conflict => 'replace', concurrency_key => $5, concurrency_limit => $6, on_full => $7)",
    "outlive_two_workers": "UPDATE scheduled_jobs SET interruptions = 2 WHERE job_id = $1 AND status = 'pending'",
}
"""What others than the library send."""

Method = Literal["fetch", "fetchrow", "fetchval", "execute"]

EPOCH = datetime(2030, 1, 1, tzinfo=UTC)
LOCK_TIMEOUT = "2s"
"""No statement waits for a lock here: whoever holds one is parked, and only the stepper could free it."""


class VirtualTime:
    """``elapsed`` is every process's monotonic clock; the database's clock goes with it and is moved besides."""

    def __init__(self) -> None:
        self.elapsed = 1000.0
        self._ahead = timedelta()
        self.set_back_at = self.set_forward_at = float("-inf")

    def monotonic(self) -> float:
        return self.elapsed

    @property
    def now(self) -> datetime:
        return EPOCH + timedelta(seconds=self.elapsed) + self._ahead

    def move_database_clock(self, by: timedelta) -> None:
        self._ahead += by
        if by > timedelta():
            self.set_forward_at = self.elapsed
        else:
            self.set_back_at = self.elapsed


STAND_INS = ";\n".join(
    [
        clock_saying("current_setting('stepper.now')::timestamptz"),
        """
CREATE FUNCTION clock_timestamp() RETURNS timestamptz LANGUAGE sql STABLE
    RETURN pg_catalog.now();

CREATE FUNCTION pg_postmaster_start_time() RETURNS timestamptz LANGUAGE sql STABLE
    RETURN to_timestamp(current_setting('stepper.server')::int);

CREATE FUNCTION pg_backend_pid() RETURNS int LANGUAGE sql STABLE
    RETURN current_setting('stepper.pid')::int;

CREATE FUNCTION pg_stat_get_activity(of_pid int) RETURNS TABLE (backend_start timestamptz) LANGUAGE sql STABLE AS $$
    SELECT to_timestamp(value::int) FROM jsonb_each_text(current_setting('stepper.backends')::jsonb)
    WHERE key = of_pid::text
$$;
""",
    ]
)


class HeartBackend(NamedTuple):
    """The backend of a heartbeat; a pid is given anew, a number never, and it stands for the backend's start."""

    pid: int
    number: int


class VirtualServer:
    """Since which of its starts the server runs, which backends of heartbeats it has, and whether it can be reached."""

    def __init__(self, time: VirtualTime) -> None:
        self.start = 1
        self.backends: dict[int, int] = {}
        self.left: list[HeartBackend] = []
        self.out_until = 0.0
        self._time = time
        self._numbers = count(1)

    @property
    def is_out(self) -> bool:
        return self._time.elapsed < self.out_until

    def connect(self) -> HeartBackend:
        if self.is_out:
            raise DatabaseUnreachable("there is an outage", why="", fix="")
        pid = next(pid for pid in count(1) if pid not in self.backends)
        self.backends[pid] = next(self._numbers)
        return HeartBackend(pid, self.backends[pid])

    def leave(self, backend: HeartBackend | None) -> None:
        """Its client has gone, of which the server has yet to hear."""
        if backend is not None and self.has(backend):
            self.left.append(backend)

    def has(self, backend: HeartBackend) -> bool:
        return self.backends.get(backend.pid) == backend.number

    def end(self, backend: HeartBackend) -> None:
        del self.backends[backend.pid]
        if backend in self.left:
            self.left.remove(backend)

    def restart(self) -> None:
        self.start += 1
        self.backends.clear()
        self.left.clear()


class Backend:
    """A session of the server, whose ``scheduler_now()`` is the virtual time of its transaction's beginning.

    It stands for those of all heartbeats: ``heart`` is whose statement it runs.
    """

    def __init__(
        self, connection: asyncpg.Connection[asyncpg.Record], time: VirtualTime, server: VirtualServer
    ) -> None:
        self.connection = connection
        self._time = time
        self._server = server
        self._told = ""

    async def run(
        self, method: Method, query: str, values: tuple[object, ...] = (), heart: HeartBackend | None = None
    ) -> Any:
        if not self.connection.is_in_transaction():
            await self._tell(0 if heart is None else heart.pid)
        return await getattr(self.connection, method)(query, *values)

    async def _tell(self, pid: int) -> None:
        settings = (
            f"SET stepper.now = '{self._time.now.isoformat()}'; SET stepper.server = {self._server.start};"
            f"SET stepper.pid = {pid}; SET stepper.backends = '{json.dumps(self._server.backends)}'"
        )
        if settings != self._told:
            await self.connection.execute(settings)
            self._told = settings

    async def roll_back(self) -> None:
        if self.connection.is_in_transaction():
            await self.connection.execute("ROLLBACK")


@dataclass(slots=True, eq=False)
class Call:
    """One statement on its way; ``executed`` once the server has answered; ``slow`` until that step."""

    link: Link
    method: Method
    query: str
    values: tuple[Any, ...]
    sent_at: float
    future: asyncio.Future[Any]
    is_in_transaction: bool
    heart: HeartBackend | None
    slow: int = 0
    executed: bool = False
    reply: Any = None
    error: Exception | None = None

    @property
    def name(self) -> str:
        known = itertools.chain(QUERIES.items(), SURFACE.items())
        return next((name for name, text in known if text == self.query), self.query)

    def deliver(self) -> None:
        if self.future.done():
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.reply)

    def fail(self) -> None:
        if not self.future.done():
            self.future.set_exception(DatabaseUnreachable("the stepper lost it", why="", fix=""))

    def __str__(self) -> str:
        return f"{self.link}: {self.name}"


@dataclass(slots=True, eq=False)
class Link:
    """What a store takes for its connection; ``backend`` is the session that its statements reach."""

    owner: str
    strand: str
    backend: Backend
    time: VirtualTime
    waiting: list[Call]
    in_transaction: bool = False
    heart: HeartBackend | None = None
    journal: list[Any] = field(default_factory=list)

    async def fetch(self, query: str, *values: Any) -> list[asyncpg.Record]:
        return cast("list[asyncpg.Record]", await self.send("fetch", query, values))

    async def fetchrow(self, query: str, *values: Any, answered: Answered | None = None) -> asyncpg.Record | None:
        row = cast("asyncpg.Record | None", await self.send("fetchrow", query, values))
        if answered is not None:
            answered(row)
        return row

    async def fetchval(self, query: str, *values: Any) -> Any:
        return await self.send("fetchval", query, values)

    async def execute(self, query: str, *values: Any) -> Any:
        return await self.send("execute", query, values)

    def is_closed(self) -> bool:
        return False

    def get_server_pid(self) -> int:
        return 0 if self.heart is None else self.heart.pid

    @property
    def place(self) -> str:
        return "here"

    def transaction(self) -> LinkTransaction:
        return LinkTransaction(self)

    async def send(self, method: Method, query: str, values: tuple[Any, ...]) -> Any:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.waiting.append(
            Call(self, method, query, values, self.time.elapsed, future, self.in_transaction, self.heart)
        )
        return await future

    def __str__(self) -> str:
        return f"{self.owner} {self.strand}"


class LinkTransaction:
    """A transaction that fails is rolled back by the server, which sees that its client has gone."""

    def __init__(self, link: Link) -> None:
        self._link = link

    async def start(self) -> None:
        self._link.in_transaction = True
        try:
            await self._link.send("execute", "BEGIN", ())
        except BaseException:
            self._link.in_transaction = False
            raise

    async def commit(self) -> None:
        try:
            await self._link.send("execute", "COMMIT", ())
        finally:
            self._link.in_transaction = False

    async def rollback(self) -> None:
        self._link.in_transaction = False

    async def __aenter__(self) -> None:
        await self.start()

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        await (self.commit() if kind is None else self.rollback())


class LinkedDatabase(Database):
    """A ``Database`` of one link instead of a pool."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._pauses = ()
        self._place = link.place

    @asynccontextmanager
    async def connection(self, *, leaves_nothing: bool = False) -> AsyncIterator[Connection]:
        del leaves_nothing
        yield cast("Connection", self._link)


async def settle() -> None:
    """Let the loop run until every coroutine of it waits for the stepper."""
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(0)
        if not getattr(loop, "_ready"):  # noqa: B009  what is left to run has no public name
            return
