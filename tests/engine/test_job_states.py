"""The states of a job as a machine: every operation of the stores, in any order, with claims that have long gone stale.

Invariant: the table shows what the model says after each, and each answer is the truth. The model is the design's table
of legal transitions (pages 2 and 3), written anew.
"""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar, cast

import asyncpg
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from pg_scheduler._domain.outcomes import ErrorRecord
from pg_scheduler._store.workers import LeaseStore
from pg_scheduler.job_status import JobStatus
from support.world import World, new_job

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

    from pg_scheduler._domain.jobs import ClaimedJob

T = TypeVar("T")

ERROR = ErrorRecord("KeyError", "'x'", "Traceback …")
MAX_INTERRUPTIONS = 1
JOB_IDS = ["a", "b"]
JOBS = st.sampled_from([*JOB_IDS, "later"])
WORKERS = st.sampled_from([0, 1])
STALE_OR_NOT = st.integers(min_value=0, max_value=3)


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One row as it must be."""

    status: str = "pending"
    token: int = 0
    worker: str | None = None
    attempt: int = 0
    retry_count: int = 0
    interruptions: int = 0
    stopping: str | None = None
    stopping_token: int | None = None

    @property
    def is_open(self) -> bool:
        return self.status in {"pending", "running"}

    @property
    def held_by(self) -> str | None:
        return self.worker if self.status == "running" else None

    @property
    def stopping_after_a_stop(self) -> str | None:
        """Who has to report the end of a coroutine, once the job is taken from it."""
        return self.held_by or self.stopping

    @property
    def stopping_token_after_a_stop(self) -> int | None:
        """Of which coroutine."""
        return self.token if self.held_by else self.stopping_token


class JobStates(RuleBasedStateMachine):
    """Two workers, two jobs that run, one more to come, and every claim that was ever made."""

    def __init__(self, loop: asyncio.Runner, world: World) -> None:
        super().__init__()
        self._loop, self._world = loop, world
        self._do(world.pool.execute("TRUNCATE scheduled_jobs, scheduler_attempts, scheduler_workers CASCADE"))
        self._jobs: dict[str, Model] = {}
        self._claims: list[ClaimedJob] = []
        self._workers = [self._do(world.worker()) for _ in range(2)]
        for job_id in JOB_IDS:
            self.insert(job_id)
            self.claim(0, 1)

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return self._loop.run(work)

    def _change(self, job_id: str, **changes: Any) -> None:
        self._jobs[job_id] = replace(self._jobs[job_id], **changes)

    def _claim_of(self, back: int) -> ClaimedJob:
        """The last claim for 0, older ones beyond, as far as there are any."""
        return self._claims[max(-1 - back, -len(self._claims))]

    def _is_current(self, job: ClaimedJob) -> bool:
        row = self._jobs[job.job_id]
        return (row.status, row.token, row.worker) == ("running", job.token, job.worker_id)

    @rule(job_id=JOBS)
    def insert(self, job_id: str) -> None:
        status = self._do(self._world.jobs.insert(new_job(job_id=job_id)))
        assert status == (None if job_id in self._jobs else JobStatus.PENDING)
        self._jobs.setdefault(job_id, Model())

    @rule(job_id=JOBS)
    def replace(self, job_id: str) -> None:
        assert self._do(self._world.jobs.replace(new_job(job_id=job_id)))
        old = self._jobs.get(job_id)
        if old is None:
            self._jobs[job_id] = Model()
            return
        self._jobs[job_id] = Model(
            worker=old.worker,
            stopping=old.stopping_after_a_stop,
            stopping_token=old.stopping_token_after_a_stop,
        )

    @rule(job_id=JOBS)
    def cancel(self, job_id: str) -> None:
        row = self._jobs.get(job_id)
        cancelled = self._do(self._world.jobs.cancel(job_id))
        assert cancelled == (row is not None and row.is_open)
        if row is not None and cancelled:
            self._change(
                job_id,
                status="cancelled",
                stopping=row.stopping_after_a_stop,
                stopping_token=row.stopping_token_after_a_stop,
            )

    @rule(job_id=JOBS)
    def run_again(self, job_id: str) -> None:
        row = self._jobs.get(job_id)
        again = self._do(self._world.jobs.run_again(job_id))
        assert again == (row is not None and row.status in {"failed", "cancelled"})
        if again:
            self._change(job_id, status="pending", token=0, attempt=0, retry_count=0, interruptions=0)

    @rule(worker=WORKERS, limit=st.integers(min_value=1, max_value=3))
    def claim(self, worker: int, limit: int) -> None:
        claimable = {job_id for job_id, row in self._jobs.items() if row.status == "pending" and row.stopping is None}
        claimed = self._do(self._world.claim(self._workers[worker], limit))
        assert len(claimed) == min(limit, len(claimable))
        assert {job.job_id for job in claimed} <= claimable
        for job in claimed:
            assert job.token > max([0, *(earlier.token for earlier in self._claims)])
            assert job.attempt == self._jobs[job.job_id].attempt + 1
            self._change(job.job_id, status="running", token=job.token, worker=job.worker_id, attempt=job.attempt)
        self._claims += sorted(claimed, key=lambda job: job.token)

    @precondition(lambda self: self._claims)
    @rule(back=STALE_OR_NOT)
    def complete(self, back: int) -> None:
        job = self._claim_of(back)
        current = self._is_current(job)
        assert self._do(self._world.jobs.complete([job], job.worker_id)) == ({job.token} if current else set())
        if current:
            self._change(job.job_id, status="completed")

    @precondition(lambda self: self._claims)
    @rule(back=STALE_OR_NOT)
    def fail(self, back: int) -> None:
        job = self._claim_of(back)
        current = self._is_current(job)
        assert self._do(self._world.jobs.fail(job, ERROR)) == current
        if current:
            self._change(job.job_id, status="failed")

    @precondition(lambda self: self._claims)
    @rule(back=STALE_OR_NOT)
    def retry(self, back: int) -> None:
        job = self._claim_of(back)
        current = self._is_current(job)
        assert self._do(self._world.jobs.retry(job, ERROR, 0)) == current
        if current:
            self._change(job.job_id, status="pending", retry_count=self._jobs[job.job_id].retry_count + 1)

    @precondition(lambda self: self._claims)
    @rule(back=STALE_OR_NOT)
    def release(self, back: int) -> None:
        job = self._claim_of(back)
        current = self._is_current(job)
        assert self._do(self._world.jobs.release([job], job.worker_id)) == ({job.token} if current else set())
        if current:
            self._change(job.job_id, status="pending", worker=None, attempt=self._jobs[job.job_id].attempt - 1)

    @precondition(lambda self: self._claims)
    @rule(back=STALE_OR_NOT)
    def release_as_a_ghost(self, back: int) -> None:
        job = self._claim_of(back)
        current = self._is_current(job)
        assert self._do(self._lease(lambda store: store.release_ghosts(job.worker_id, [job.token]))) == current
        if current:
            self._change(job.job_id, status="pending", worker=None, attempt=self._jobs[job.job_id].attempt - 1)

    @precondition(lambda self: self._claims)
    @rule(back=STALE_OR_NOT)
    def report_stopped(self, back: int) -> None:
        job = self._claim_of(back)
        self._do(self._world.jobs.report_stopped(job))
        row = self._jobs[job.job_id]
        if row.stopping == job.worker_id and job.token == row.stopping_token:
            self._change(job.job_id, stopping=None)

    @rule(worker=WORKERS)
    def beat(self, worker: int) -> None:
        worker_id = self._workers[worker]
        held = {row.token for row in self._jobs.values() if row.held_by == worker_id}
        assert self._do(self._world.beat(worker_id)) == held

    @rule(worker=WORKERS)
    def die_and_be_swept(self, worker: int) -> None:
        dead, self._workers[worker] = self._workers[worker], self._do(self._world.worker())
        self._do(self._lease(lambda store: store.retire(dead)))
        assert self._do(self._world.beat(dead)) is None
        held = [job_id for job_id, row in self._jobs.items() if row.held_by == dead]
        statuses = self._do(self._world.jobs.requeue_orphans(MAX_INTERRUPTIONS))
        most = max((self._jobs[job_id].interruptions for job_id in held), default=0)
        for job_id in held:
            row = self._jobs[job_id]
            charge = int(row.interruptions == most)
            status = "failed" if charge and row.interruptions >= MAX_INTERRUPTIONS else "pending"
            self._change(job_id, status=status, interruptions=row.interruptions + charge)
        assert sorted(statuses) == sorted(JobStatus(self._jobs[job_id].status) for job_id in held)
        freed = [job_id for job_id, row in self._jobs.items() if row.stopping == dead]
        assert self._do(self._world.jobs.forget_stopping()) == len(freed)
        for job_id in freed:
            self._change(job_id, stopping=None)

    @rule(worker=WORKERS)
    def claim_and_die(self, worker: int) -> None:
        self.claim(worker, 3)
        self.die_and_be_swept(worker)

    @precondition(lambda self: self._claims)
    @rule(back=STALE_OR_NOT, worker=WORKERS)
    def retry_and_claim(self, back: int, worker: int) -> None:
        """The way to two claims of one job by one worker, which the token alone tells apart."""
        self.retry(back)
        self.claim(worker, 3)

    @invariant()
    def table_is_the_model(self) -> None:
        rows = self._do(
            self._world.pool.fetch(
                "SELECT job_id, status, token, worker_id AS worker, attempt, retry_count, interruptions,"
                " stopping_worker AS stopping, stopping_token FROM scheduled_jobs"
            )
        )
        table = {row["job_id"]: Model(**{name: row[name] for name in Model.__dataclass_fields__}) for row in rows}
        assert table == self._jobs

    async def _lease(self, work: Any) -> Any:
        async with self._world.pool.acquire() as connection:
            return await work(LeaseStore(connection, place=""))


@contextmanager
def _world(loop: asyncio.Runner, dsn: str) -> Iterator[World]:
    async def open_pool() -> asyncpg.Pool[asyncpg.Record]:
        return await asyncpg.create_pool(dsn, min_size=1, max_size=2)

    pool = loop.run(open_pool())
    try:
        yield World.over(pool)
    finally:
        loop.run(pool.close())


def test_a_job_moves_only_along_the_designs_transitions(dsn: str) -> None:
    with asyncio.Runner() as loop, _world(loop, dsn) as world:
        run_state_machine_as_test(
            cast("type[JobStates]", lambda: JobStates(loop, world)),  # what is called to make one
            settings=settings(
                max_examples=40,
                stateful_step_count=40,
                deadline=None,
                phases=[Phase.explicit, Phase.reuse, Phase.generate],  # to shrink over a database takes minutes
                suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
            ),
        )
