"""One attempt without a database: from a function and its arguments to the outcome."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

from pg_scheduler._domain import codec
from pg_scheduler._domain.jobs import ClaimedJob
from pg_scheduler._engine.calls import Calls, Middleware
from pg_scheduler._engine.environment import Environment
from pg_scheduler._engine.offloading import Offloading
from pg_scheduler._engine.performing import Performer
from pg_scheduler._engine.runtime import context_of
from pg_scheduler._engine.slots import HeldJob
from pg_scheduler.tasks import Registry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from pg_scheduler._domain.outcomes import Outcome
    from pg_scheduler.context import JobContext

DUE = datetime(2026, 1, 2, tzinfo=UTC)
TICK = datetime(2026, 1, 1, tzinfo=UTC)


class Attempt:
    """A job of the function that is held and may be run."""

    def __init__(
        self,
        offloading: Offloading,
        function: Callable[..., Any],
        payload: str,
        middleware: Sequence[Middleware],
        environment: Mapping[str, str],
        **row: Any,
    ) -> None:
        registry = Registry()
        job = ClaimedJob(1, "the job", 17, "w", registry.add(function), payload, "default", 5, DUE, 3, 0, 0, TICK)
        self.held = HeldJob(job._replace(**row))
        self._performer = Performer(
            Calls(registry, make_context=_context, offloading=offloading, middleware=middleware),
            environment=Environment(environment),
        )

    async def run(self) -> Outcome:
        """See it to its outcome, in a task of its own."""
        me = asyncio.current_task()
        return await self._performer.perform(self.held, cast("asyncio.Task[None]", me))


@contextmanager
def attempt(
    function: Callable[..., Any],
    *args: Any,
    kwargs: dict[str, Any] | None = None,
    middleware: Sequence[Middleware] = (),
    payload: str | None = None,
    environment: Mapping[str, str] | None = None,
    **row: Any,
) -> Iterator[Attempt]:
    """An attempt, and the end of its threads."""
    offloading = Offloading(2)
    try:
        payload = payload or codec.encode(args, kwargs or {})
        yield Attempt(offloading, function, payload, middleware, environment or {}, **row)
    finally:
        offloading.close()


async def outcome_of(function: Callable[..., Any], *args: Any, **options: Any) -> Outcome:
    """What comes of one attempt."""
    with attempt(function, *args, **options) as one:
        return await asyncio.create_task(one.run())


def _context(held: HeldJob, deadline: float | None) -> JobContext:
    return context_of(held, cast("Any", None), deadline)
