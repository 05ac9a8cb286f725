"""Run one claimed job: resolve, perform, hand the outcome on.

Invariant: whatever a job does — return, raise, cancel itself, take arguments that do not fit — becomes an outcome;
nothing of it reaches another job.
"""

import asyncio
import logging

from pg_scheduler._domain import codec
from pg_scheduler._domain.jobs import ClaimedJob
from pg_scheduler._domain.outcomes import Ending, ErrorRecord, GivenBack, Lost, Raised, Returned, decide
from pg_scheduler._engine.completions import Completions
from pg_scheduler._engine.slots import RunningJob, Slots, StopReason
from pg_scheduler.errors import InvalidPayload
from pg_scheduler.tasks import Registry

logger = logging.getLogger("pg_scheduler.engine")


class Executor:
    """Starts jobs and sees each to its outcome."""

    def __init__(self, registry: Registry, slots: Slots, completions: Completions) -> None:
        self._registry = registry
        self._slots = slots
        self._completions = completions

    def start(self, job: ClaimedJob) -> None:
        """Give the job its slot and its task."""
        task = asyncio.get_running_loop().create_task(self._run(job), name=f"job {job.job_id}")
        self._slots.hold(RunningJob(job, task))

    async def _run(self, job: ClaimedJob) -> None:
        ending = await self._perform(job)
        if isinstance(ending, Raised):
            logger.warning("job %s (%s) attempt %d failed: %s", job.job_id, job.task, job.attempt, ending.error.type)
        self._completions.add(job, decide(job, ending))
        self._slots.release(job.token)

    async def _perform(self, job: ClaimedJob) -> Ending:
        function = self._registry.get(job.task)
        if function is None:
            return GivenBack()
        try:
            args, kwargs = codec.decode(job.payload)
        except InvalidPayload as error:
            return Raised(ErrorRecord.of(error), final=True)
        try:
            await function(*args, **kwargs)
        except asyncio.CancelledError as error:
            return self._cancelled(job, error)
        except Exception as error:  # noqa: BLE001  user code may raise anything, and all of it is recorded
            return Raised(ErrorRecord.of(error))
        return Returned()

    def _cancelled(self, job: ClaimedJob, error: asyncio.CancelledError) -> Ending:
        running = self._slots.find(job.token)
        match running.stop_reason if running else None:
            case StopReason.LOST:
                return Lost()
            case StopReason.SHUTDOWN:
                return GivenBack()
            case None:
                return Raised(ErrorRecord.of(error))
