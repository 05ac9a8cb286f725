"""A job's own transaction, whose last statement completes the job.

Invariants: the block's work and the completion are one commit. A commit whose answer was lost is looked up under the
job's token before anybody is told, so that what is known to have happened is never called a failure. Nobody's
exception but that of the lost connection is changed on its way through.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import asyncpg

from pg_scheduler._domain.jobs import ClaimedJob
from pg_scheduler._store.connections import CONNECT_TIMEOUT_SECONDS, place_of
from pg_scheduler._store.driver import Connection, Pool
from pg_scheduler._store.driver_errors import translated
from pg_scheduler._store.jobs import JobStore
from pg_scheduler._store.queries import QUERIES
from pg_scheduler.errors import DatabaseUnreachable, LostClaim, TransactionLost

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

ASK_PAUSE_SECONDS = 0.5
CLOCK_SLACK = 0.9
"""Our clock and the server's start at different moments: a limit counts as reached a little before."""

logger = logging.getLogger("pg_scheduler.engine")

T = TypeVar("T")
PooledConnection: TypeAlias = "PoolConnectionProxy[asyncpg.Record]"


class JobTransactions:
    """Opens them on the caller's pool; ``jobs`` asks on other connections what became of a commit."""

    def __init__(self, pool: Pool, jobs: JobStore, *, lease_seconds: float, command_seconds: float) -> None:
        self._pool = pool
        self._jobs = jobs
        self._idle_milliseconds = max(1, int(lease_seconds * 1000 / 3))
        self._ask_seconds = lease_seconds
        self._command_seconds = command_seconds

    @asynccontextmanager
    async def completing(self, job: ClaimedJob, set_settled: Callable[[bool], None]) -> AsyncIterator[PooledConnection]:
        """A connection in a transaction; at the end of the block the job is completed and all is committed.

        Args:
            job: the running job.
            set_settled: told True before the completion is sent, and False again when it did not come to a commit.

        Raises:
            LostClaim: the job is no longer ours; all was rolled back.
            TransactionLost: the connection was lost before the commit.
            DatabaseUnreachable: no connection to be had.
        """
        with translated(place_of(self._pool)):
            connection = await self._pool.acquire(timeout=CONNECT_TIMEOUT_SECONDS)
        try:
            async with _watched(connection) as watch:
                transaction = await self._begun(connection, watch)
                try:
                    yield connection
                    set_settled(True)
                    await self._complete(connection, job)
                except BaseException as error:
                    set_settled(False)
                    await _rolled_back(transaction, watch)
                    watch.raise_if_lost(error)
                    raise
                try:
                    told_to_stop = await self._commit(transaction, job, watch)
                except BaseException:
                    set_settled(False)
                    raise
                if told_to_stop:
                    raise asyncio.CancelledError
        finally:
            with contextlib.suppress(DatabaseUnreachable), translated(place_of(self._pool)):
                await self._pool.release(connection)

    async def _begun(self, connection: Connection, watch: "_Watch") -> Any:
        transaction = connection.transaction()
        with translated(place_of(self._pool)):
            await transaction.start()
            watch.begin(await connection.fetchrow(QUERIES["limit_idling"], self._idle_milliseconds))
        return transaction

    async def _complete(self, connection: Connection, job: ClaimedJob) -> None:
        if await connection.fetchrow(QUERIES["complete_in_transaction"], job.id, job.token, job.worker_id) is None:
            raise LostClaim(
                f"job {job.job_id!r} is no longer this attempt's",
                why="it was cancelled, replaced or given to another worker; the transaction was rolled back",
            )

    async def _commit(self, transaction: Any, job: ClaimedJob, watch: "_Watch") -> bool:
        """Commit, also against a cancellation, which would leave the answer unknown; whether one came meanwhile."""
        commit = asyncio.ensure_future(transaction.commit())
        told_to_stop = await _ended(commit, self._command_seconds)
        if not commit.done():
            watch.terminate()  # a silent server: the commit fails here now, and may have taken place there
            told_to_stop |= await _ended(commit, None)
        error = commit.exception()
        if error is None:
            return told_to_stop
        if _is_unknown(error):
            watch.terminate()
            if await self._was_completed(job, self._command_seconds if told_to_stop else self._ask_seconds):
                return told_to_stop
            watch.raise_if_lost(error)
        raise error

    async def _was_completed(self, job: ClaimedJob, seconds: float) -> bool:
        """Ask the row. Without an answer in time the caller hears of a failure, and the fence refuses its outcome."""
        give_up_at = time.monotonic() + seconds
        while True:
            try:
                return await self._jobs.was_completed(job)
            except DatabaseUnreachable:
                if time.monotonic() >= give_up_at:
                    return False
            await asyncio.sleep(ASK_PAUSE_SECONDS)


class _Watch:
    """When the connection last worked and when it was lost, to tell why: asyncpg drops what the server said.

    A pooled connection that is lost goes back to its pool at once, and from then on cannot even be asked.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._began_at = self._last_ended_at = time.monotonic()
        self._lost_at: float | None = None
        self._idle_seconds: float | None = None
        self._total_seconds: float | None = None

    def begin(self, limits: Any) -> None:
        """The transaction has begun, and these are its limits."""
        self._idle_seconds, self._total_seconds = limits

    def note_query(self, _: object) -> None:
        self._last_ended_at = time.monotonic()

    def note_loss(self, _: object) -> None:
        self._lost_at = time.monotonic()

    @property
    def is_lost(self) -> bool:
        """Whether the connection is gone."""
        return self._lost_at is not None

    def terminate(self) -> None:
        """Give the connection up without another word to the server."""
        if not self.is_lost:
            self._connection.terminate()

    def raise_if_lost(self, error: BaseException) -> None:
        """Raise what really happened in the place of an error that only says that the connection is closed."""
        if not self.is_lost or not isinstance(error, _DRIVER_ERRORS):
            return
        raise TransactionLost(
            "the connection of ctx.transaction() was lost and nothing was committed", why=self._reason(error)
        ) from error

    def _reason(self, error: BaseException) -> str:
        if isinstance(error, asyncpg.PostgresError):
            return f"PostgreSQL says: {error}"
        lost_at = self._lost_at or self._last_ended_at
        if self._total_seconds and lost_at - self._began_at >= self._total_seconds * CLOCK_SLACK:
            return f"it took longer than transaction_timeout, {self._total_seconds:g} s"
        if self._idle_seconds and lost_at - self._last_ended_at >= self._idle_seconds * CLOCK_SLACK:
            return (
                f"it idled for longer than idle_in_transaction_session_timeout, {self._idle_seconds:g} s: "
                "call other services before the block"
            )
        return "the server, its restart or the network closed it"


_DRIVER_ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)


@asynccontextmanager
async def _watched(connection: Connection) -> AsyncIterator[_Watch]:
    watch = _Watch(connection)
    connection.add_termination_listener(watch.note_loss)
    connection.add_query_logger(watch.note_query)
    try:
        yield watch
    finally:
        if not watch.is_lost:
            connection.remove_termination_listener(watch.note_loss)
            connection.remove_query_logger(watch.note_query)


async def _rolled_back(transaction: Any, watch: _Watch) -> None:
    if not watch.is_lost:
        with contextlib.suppress(*_DRIVER_ERRORS):  # it is lost just now, and its transaction with it
            await transaction.rollback()


async def _ended(future: "asyncio.Future[T]", seconds: float | None) -> bool:
    """Wait for its end, at most ``seconds``; whether we were told to stop meanwhile, which does not stop it."""
    cancelled = False
    while not future.done():
        try:
            done, _ = await asyncio.wait([future], timeout=seconds)
        except asyncio.CancelledError:
            cancelled = True
            continue
        if not done:
            break
    return cancelled


def _is_unknown(error: BaseException) -> bool:
    """Whether a commit that failed so may have taken place all the same."""
    known = isinstance(error, asyncpg.PostgresError)
    return not known or isinstance(error, asyncpg.PostgresConnectionError | asyncpg.OperatorInterventionError)
