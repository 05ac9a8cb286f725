"""Run claimed jobs: resolve, perform, hand the outcome on.

Invariants: whatever a job does — return, raise, cancel itself, take arguments that do not fit — becomes an outcome;
nothing of it reaches another job.

A task for each job would cost as much as all the rest of Python's work on it (4 µs of 8, design page 2 §2.3). So one
runner runs jobs in turn for as long as they end without waiting. A job that waits keeps the runner as its own task, for
its cancellation; a new runner, asked for before the first job began, goes on with the others.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Iterable
from contextvars import copy_context
from typing import Any, assert_never

from pg_scheduler._domain import codec
from pg_scheduler._domain.outcomes import Ending, ErrorRecord, GivenBack, Lost, Raised, Returned, decide
from pg_scheduler._engine.completions import Completions
from pg_scheduler._engine.slots import HeldJob, Slots, StopReason
from pg_scheduler._engine.steps import first_step
from pg_scheduler.errors import InvalidPayload
from pg_scheduler.tasks import Registry

logger = logging.getLogger("pg_scheduler.engine")

_RETURNED = Returned()


class Executor:
    """Starts jobs and sees each to its outcome."""

    def __init__(self, registry: Registry, slots: Slots, completions: Completions) -> None:
        self._registry = registry
        self._slots = slots
        self._completions = completions
        self._queue: deque[HeldJob] = deque()
        self._runners: set[asyncio.Task[None]] = set()
        self._runner_is_coming = False

    def start(self, jobs: Iterable[HeldJob]) -> None:
        """Start jobs that have their slot, in this order, once the caller waits for something."""
        self._queue.extend(jobs)
        self._ask_for_runner()

    def _ask_for_runner(self) -> None:
        if not self._runner_is_coming:
            self._runner_is_coming = True
            asyncio.get_running_loop().call_soon(self._start_runner)

    def _start_runner(self) -> None:
        self._runner_is_coming = False
        if self._queue:
            runner = asyncio.get_running_loop().create_task(self._run_in_turn())
            self._runners.add(runner)
            runner.add_done_callback(self._runners.discard)

    async def _run_in_turn(self) -> None:
        me = asyncio.current_task()
        if me is None:
            raise AssertionError("a coroutine of a task runs in a task")
        self._ask_for_runner()  # comes after my first step: should I wait by then, it goes on without me
        while self._queue and not me.cancelling() and not (await self._run(self._queue.popleft(), me)):
            pass

    async def _run(self, held: HeldJob, me: asyncio.Task[None]) -> bool:
        """See a job to its outcome; whether it has waited for something, so that ``me`` is its task and no other's."""
        if held.stop_reason is not None:
            self._end(held, _stopped(held.stop_reason))
            return False
        try:
            args, kwargs = codec.decode(held.job.payload)
        except InvalidPayload as error:
            self._end(held, Raised(ErrorRecord.of(error), final=True))
            return False
        self._end(held, await self._perform(held, me, args, kwargs))
        return held.task is not None

    async def _perform(self, held: HeldJob, me: asyncio.Task[None], args: list[Any], kwargs: dict[str, Any]) -> Ending:
        try:
            rest = first_step(self._registry[held.job.task](*args, **kwargs), copy_context())
            if rest is not None:
                held.task = me
                await rest
        except asyncio.CancelledError as error:
            return _stopped(held.stop_reason) if held.stop_reason else Raised(ErrorRecord.of(error))
        except (KeyboardInterrupt, GeneratorExit):
            raise  # these are the process's, not the job's
        except BaseException as error:  # noqa: BLE001  user code may raise anything, sys.exit too, and all is recorded
            return Raised(ErrorRecord.of(error))
        return _RETURNED

    def _end(self, held: HeldJob, ending: Ending) -> None:
        job = held.job
        if isinstance(ending, Raised):
            logger.warning("job %s (%s) attempt %d failed: %s", job.job_id, job.task, job.attempt, ending.error.type)
        self._completions.add(job, decide(job, ending))
        self._slots.release(job.token)


def _stopped(reason: StopReason) -> Ending:
    match reason:
        case StopReason.LOST:
            return Lost()
        case StopReason.SHUTDOWN:
            return GivenBack()
        case _:
            assert_never(reason)
