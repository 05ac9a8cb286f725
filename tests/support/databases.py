"""Real PostgreSQL for tests: one server a session and release, one database a test.

Invariant: a test finds a freshly migrated database of its own and leaves no connection behind in it.

Tests under ``tests/store`` and ``tests/engine`` run on every release of ``RELEASES``, others on the newest. The mark
``every_postgres`` widens that. ``newest_postgres``, on a test or a file, takes out what is decided in Python: options,
calls, how a worker starts and stops, what a tool for tests sees. Their statements are run on every release below
``tests/store``; what a server does to a worker (faults, connections, poolers, transactions) stays on every release.

Fixtures: ``dsn`` and ``pool`` (a migrated database), ``new_database`` (more of them, migrated or empty), ``pg_server``
(the server), ``pg`` (its major version).
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import asyncpg
import pytest

from pg_scheduler._store.migrator import migrate
from pg_scheduler.embedded import EmbeddedPostgres, find_binaries
from support.needs import PROGRAMS, needs
from support.waiting import PATIENCE, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterator

T = TypeVar("T")

NEWEST = 18
OLDEST, OLDEST_BIN = 14, "PGSCHEDULER_PG_BIN_14"
"""Supported, but neither Debian's nor a wheel's: tests run on it only where the variable says where it is."""
RELEASES = [
    pytest.param(NEWEST, id="pg18"),
    pytest.param(15, id="pg15", marks=needs("postgresql-15")),
    *([pytest.param(OLDEST, id="pg14")] if OLDEST_BIN in os.environ else []),
]
EVERY_RELEASE = {"store", "engine"}
MIGRATED, EMPTY = "migrated", "template0"
MEMORY = Path("/dev/shm")  # noqa: S108 - a clone takes 12 ms there, up to 350 on a busy disk
MEMORY_BYTES = 2**30
CLOSING_SECONDS = 20
ADVISORY_LOCKS = (
    "SELECT count(*) FROM pg_locks LEFT JOIN pg_database d ON d.oid = database"
    " WHERE locktype = 'advisory' AND ($1::text IS NULL OR datname = $1)"
)
QUIET = {"autovacuum": "off", "checkpoint_timeout": "1h", "max_connections": "200"}


class PgServer:
    """One running server and the databases that tests cut from it.

    Its statements run on a thread and a loop of their own, so that a database can be had inside a test's loop and
    outside of one.
    """

    def __init__(self, embedded: EmbeddedPostgres, *, clone: str) -> None:
        self.dsn = embedded.dsn
        self._clone = clone
        self._numbers = count(1)
        self._loop = asyncio.new_event_loop()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="pg-server")
        self._admin: asyncpg.Connection[asyncpg.Record] = self._run(asyncpg.connect(self.dsn))
        self._run(self._make_template())

    def create(self, *, template: str = MIGRATED) -> str:
        """The DSN of a new database: a copy of the migrated one, or ``EMPTY``."""
        name = f"test_{next(self._numbers)}"
        self._run(self._admin.execute(f"CREATE DATABASE {name} TEMPLATE {template} {self._clone}"))
        return with_database(self.dsn, name)

    def drop(self, dsn: str) -> None:
        """Drop it, and fail if the test left a connection open in it."""
        self._run(self._drop(urlsplit(dsn).path.removeprefix("/")))

    def close(self) -> None:
        held = self._run(self._admin.fetchval(ADVISORY_LOCKS, None))
        self._run(self._admin.close())
        self._thread.shutdown()
        self._loop.close()
        assert held == 0, "an advisory lock outlived the suite"

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self._thread.submit(self._loop.run_until_complete, coroutine).result()

    async def _make_template(self) -> None:
        await self._admin.execute(f"CREATE DATABASE {MIGRATED}")
        await migrate(lambda: asyncpg.connect(with_database(self.dsn, MIGRATED)))

    async def _drop(self, name: str) -> None:
        try:
            await until(lambda: self._is_idle(name), timeout=CLOSING_SECONDS, what=f"{name} has no connection left")
        finally:
            await self._admin.execute(f"DROP DATABASE {name} WITH (FORCE)")

    async def _is_idle(self, name: str) -> bool:
        left = await self._admin.fetch(
            "SELECT application_name, state, query FROM pg_stat_activity"
            " WHERE datname = $1 AND backend_type = 'client backend'",
            name,
        )
        assert not left, [tuple(row) for row in left]
        return True


def with_database(dsn: str, name: str) -> str:
    """The same server and user, another database."""
    return urlsplit(dsn)._replace(path=f"/{name}").geturl()


def bin_dir_of(release: int) -> Path:
    """The programs of a release; tests get here only if ``needs`` found them."""
    if release == NEWEST:
        return find_binaries()
    if release == OLDEST:
        return Path(os.environ[OLDEST_BIN])
    initdb = PROGRAMS[f"postgresql-{release}"].find()
    assert initdb is not None
    return initdb.parent


def _memory_is_roomy() -> bool:
    return MEMORY.is_dir() and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free >= MEMORY_BYTES


def _start(release: int, stack: ExitStack) -> PgServer:
    roomy = _memory_is_roomy()
    with pytest.MonkeyPatch.context() as patch:
        if roomy:
            patch.setattr(tempfile, "tempdir", str(MEMORY))
        embedded = EmbeddedPostgres(bin_dir=bin_dir_of(release), settings=QUIET, durable=False)
        stack.enter_context(embedded)
    # Copying files is the faster way, but for the checkpoint it asks for: a price only where that touches a disk.
    clone = "" if release == OLDEST else f"STRATEGY {'file_copy' if roomy else 'wal_log'}"
    server = PgServer(embedded, clone=clone)
    stack.callback(server.close)
    return server


@contextmanager
def started(release: int) -> Iterator[PgServer]:
    """A server outside of any test."""
    with ExitStack() as stack:
        yield _start(release, stack)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "every_postgres: run on every supported release at hand, not on the newest only")
    config.addinivalue_line("markers", "newest_postgres: run on the newest release only, also below store and engine")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "pg" in metafunc.fixturenames:
        releases = RELEASES if _runs_on_every_release(metafunc.definition) else RELEASES[:1]
        metafunc.parametrize("pg", releases, indirect=True, scope="session")


def _runs_on_every_release(test: pytest.Item) -> bool:
    if test.get_closest_marker("every_postgres"):
        return True
    return bool(EVERY_RELEASE & set(test.path.parts)) and not test.get_closest_marker("newest_postgres")


@pytest.fixture(scope="session")
def pg(request: pytest.FixtureRequest) -> int:
    """The major version of PostgreSQL that this test runs on."""
    return int(getattr(request, "param", NEWEST))


@pytest.fixture(scope="session")
def pg_servers() -> Iterator[Callable[[int], PgServer]]:
    """The servers of this session by major version, each started when first asked for."""
    with ExitStack() as stack:
        started: dict[int, PgServer] = {}

        def server_of(release: int) -> PgServer:
            if release not in started:
                started[release] = _start(release, stack)
            return started[release]

        yield server_of


@pytest.fixture(scope="session")
def pg_server(pg: int, pg_servers: Callable[[int], PgServer]) -> PgServer:
    """The server of this test."""
    return pg_servers(pg)


@pytest.fixture
def new_database(pg_server: PgServer) -> Iterator[Callable[..., str]]:
    """``new_database()`` is the DSN of one more migrated database, ``new_database(template=EMPTY)`` of an empty one."""
    made: list[str] = []

    def create(*, template: str = MIGRATED) -> str:
        made.append(pg_server.create(template=template))
        return made[-1]

    yield create
    with ExitStack() as stack:  # a failure to drop one keeps none of the others
        for dsn in made:
            stack.callback(pg_server.drop, dsn)


@pytest.fixture
def dsn(new_database: Callable[..., str]) -> str:
    """The DSN of this test's own migrated database."""
    return new_database()


@pytest.fixture
async def pool(dsn: str) -> AsyncIterator[asyncpg.Pool[asyncpg.Record]]:
    """A pool of at most ten connections to this test's own database."""
    pool = await asyncpg.create_pool(dsn, min_size=1, max_size=10)
    yield pool
    try:
        async with asyncio.timeout(PATIENCE):
            if not pool.is_closing():  # a lock of a session would go with it: look before that
                name = urlsplit(dsn).path.removeprefix("/")
                assert await pool.fetchval(ADVISORY_LOCKS, name) == 0, "an advisory lock outlived its transaction"
            await pool.close()
    except TimeoutError:
        pool.terminate()
        raise AssertionError("the test kept a connection of its pool") from None
