"""The worker of the submitting process: a job that is due as it is submitted is stored as claimed by it.

So one commit stands between ``schedule()`` and the job's first line, where a claim is a second one.

Invariants: what holds for a claim holds here: a valid lease, a task and a queue of this worker, a slot kept meanwhile,
nothing beside a job that runs alone; the statement itself looks at pause, drain and time. Nothing is overtaken: there
is no backlog, and a claim finds as many free slots as it may ask for. Nothing is waited for: an id that was made here
is in nobody's way. An answer that takes longer than any claim's is not heeded, and its row is released as a ghost.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from time import monotonic

from pg_scheduler._domain.jobs import ClaimedJob, NewJob
from pg_scheduler._engine.claiming import Claiming
from pg_scheduler._engine.clock import DatabaseClock
from pg_scheduler._engine.config import PREFETCH_SECONDS, EngineConfig
from pg_scheduler._engine.ghosts import Ghosts
from pg_scheduler._engine.lease import Lease, boot_seconds
from pg_scheduler._engine.quarantine import Quarantine
from pg_scheduler._engine.slots import Slots
from pg_scheduler._engine.starts import Starts
from pg_scheduler._store.jobs import Ahead, JobStore
from pg_scheduler.job_status import JobStatus

PATIENCE = 2
"""Time limits of a statement: so long may a claim take to be answered, and the driver's own gives up no sooner."""


class OwnWorker:
    """What a submission may ask of it."""

    def __init__(
        self,
        claiming: Claiming,
        starts: Starts,
        slots: Slots,
        *,
        quarantine: Quarantine,
        lease: Lease,
        ghosts: Ghosts,
        clock: DatabaseClock,
        config: EngineConfig,
        on_idle: Callable[[], None],
    ) -> None:
        self._claiming = claiming
        self._starts = starts
        self._slots = slots
        self._quarantine = quarantine
        self._lease = lease
        self._ghosts = ghosts
        self._clock = clock
        self._config = config
        self._on_idle = on_idle
        self._stopping = asyncio.Event()
        self._stopping.set()
        self._one_waits_alone = False
        self._under_way = 0
        self._all_answered = asyncio.Event()
        self._all_answered.set()

    def observe(self, ahead: Ahead) -> None:
        """What the claim loop has seen: it makes room for a job that is to run alone, if nothing goes past it."""
        self._one_waits_alone = ahead.alone

    def takes(self, job: NewJob) -> bool:
        """Whether it would claim the job now, and take no other's place by that."""
        due_at = self._clock.monotonic_of(job.execution_time)
        return (
            due_at is not None
            and due_at <= monotonic() + PREFETCH_SECONDS
            and self._slots.free > self._config.claim_limit
            and not self._claiming.is_behind
            and not self._stopping.is_set()
            and not self._one_waits_alone
            and not self._quarantine.is_closed
            and job.concurrency_key is None
            and self._claiming.serves(job.queue, job.task)
        )

    async def submit(self, jobs: JobStore, job: NewJob) -> JobStatus | None:
        """Insert the job, and start it if the database agrees; the status that the row has now."""
        with ExitStack() as claim:
            claim.enter_context(self._claim())
            gives_up = asyncio.get_running_loop().call_later(PATIENCE * self._config.command_seconds, claim.close)
            claim.callback(gives_up.cancel)

            def start(claimed: ClaimedJob) -> None:
                if not gives_up.cancelled():
                    claim.close()  # the slot that was kept is the job's now
                    self._starts.start([claimed])

            status = await jobs.insert_claimed(
                job, self._lease.worker_id, within_seconds=PREFETCH_SECONDS, on_claimed=start
            )
        if self._slots.is_idle:
            self._on_idle()
        return status

    async def run(self, stopping: asyncio.Event) -> None:
        """Take jobs until ``stopping``, and wait until what was under way then is answered."""
        self._stopping = stopping
        await stopping.wait()
        await self._all_answered.wait()

    @contextmanager
    def _claim(self) -> Iterator[None]:
        self._under_way += 1
        self._all_answered.clear()
        try:
            with self._ghosts.claim(boot_seconds()), self._slots.reserved(1):
                yield
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._all_answered.set()
