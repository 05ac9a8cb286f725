"""What a scenario is, and what it is given.

Invariant: a scenario leaves nothing behind: its databases are dropped and its processes have ended when it returns.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import asyncpg

from benchmarks.bare import SCHEMA
from pg_scheduler import Scheduler

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
    from pathlib import Path
    from typing import TypeAlias

    from benchmarks.figures import Figure

    Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One question; ``usual`` says whether a run that names no scenario asks it."""

    name: str
    about: str
    run: Callable[[Bench], Awaitable[Sequence[Figure]]]
    usual: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """The server of this run, how much of each scenario to do, and where to say how far it is."""

    dsn: str
    scale: float
    pairs: int
    loop: str
    profile: Path | None = None
    """Folder for what each of our worker processes spent its time on; profiling makes ours slower."""
    say: Callable[[str], None]
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def scaled(self, number: float, *, least: int = 20) -> int:
        """The scenario's own number at this run's scale."""
        return max(least, round(number * self.scale))

    def turns(self, what: str) -> Iterator[int]:
        """The numbers of the pairs, each said."""
        for turn in range(1, self.pairs + 1):
            self.say(f"{what}: pair {turn} of {self.pairs}")
            yield turn

    @asynccontextmanager
    async def database(self) -> AsyncIterator[str]:
        """The DSN of a database of its own, with the library's tables and the bare queue's, dropped afterwards."""
        name = f"bench_{next(self._numbers)}"
        admin = await asyncpg.connect(self.dsn)
        try:
            await admin.execute(f"CREATE DATABASE {name}")
            dsn = urlsplit(self.dsn)._replace(path=f"/{name}").geturl()
            try:
                await _make_tables(dsn)
                yield dsn
            finally:
                await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
        finally:
            await admin.close()

    @asynccontextmanager
    async def pool(self) -> AsyncIterator[Pool]:
        """A pool of a database of its own."""
        async with self.database() as dsn, asyncpg.create_pool(dsn, min_size=1, max_size=10) as pool:
            yield pool


async def _make_tables(dsn: str) -> None:
    async with asyncpg.create_pool(dsn, min_size=1, max_size=1) as pool:
        await Scheduler(pool).initialize_db()
        await pool.execute(SCHEMA)
