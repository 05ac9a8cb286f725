"""A worker without threads and sockets: the shipped services, each of whose statements waits for the stepper.

Invariant: what decides is the shipped code. Ours are only the glue of the heartbeat, whose thread is not wanted here,
and the judge of when a coroutine may begin.
"""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any, cast

import pytest

from pg_scheduler._engine import (
    claim_loop,
    claiming,
    own_worker,
    performing,
    quarantine,
    rescuer,
    starts,
    suspicion,
    turns,
)
from pg_scheduler._engine.calls import Calls
from pg_scheduler._engine.claim_loop import ClaimLoop
from pg_scheduler._engine.claiming import Claiming
from pg_scheduler._engine.clock import WINDOW_SECONDS, DatabaseClock
from pg_scheduler._engine.completions import Completions
from pg_scheduler._engine.environment import Environment
from pg_scheduler._engine.executor import Executor
from pg_scheduler._engine.floor import Floor
from pg_scheduler._engine.ghosts import Ghosts
from pg_scheduler._engine.lease import Lease
from pg_scheduler._engine.offloading import Offloading
from pg_scheduler._engine.own_worker import OwnWorker
from pg_scheduler._engine.performing import Performer
from pg_scheduler._engine.periodic_jobs import PeriodicJobs
from pg_scheduler._engine.quarantine import Quarantine
from pg_scheduler._engine.rescuer import Rescuer
from pg_scheduler._engine.slots import HeldJob, Slots, StopReason
from pg_scheduler._engine.starts import Starts
from pg_scheduler._engine.suspicion import Suspicion
from pg_scheduler._engine.ticker import Ticker
from pg_scheduler._store.jobs import JobStore
from pg_scheduler._store.schedules import ScheduleStore
from pg_scheduler._store.workers import LeaseStore, WorkerCard, WorkerStore
from pg_scheduler.errors import DatabaseUnreachable
from pg_scheduler.tasks import Registry
from support.changes import Broken, require
from support.parked import Backend, Call, HeartBackend, Link, LinkedDatabase, VirtualServer, VirtualTime, settle

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Coroutine, Iterator

    from pg_scheduler._domain.jobs import NewJob
    from pg_scheduler._engine.config import EngineConfig
    from pg_scheduler._store.driver import Connection
    from pg_scheduler._store.jobs import Ahead
    from pg_scheduler.context import JobContext
    from support.job_history import Judge

TASK = "stepper:task"
STOP_WAIT_SECONDS = 30.0
GRACE_SECONDS = 1.5
"""Of a suspect: shorter than the stepper's lease and than the time between two beats, as 8 s are than 60 and 20."""


class VirtualAlarm:
    """``Alarm`` on the virtual clock: rings when the stepper has moved it far enough."""

    def __init__(self, ring: Callable[[], None]) -> None:
        self._ring = ring
        self._at: float | None = None

    def __enter__(self) -> VirtualAlarm:
        return self

    def __exit__(self, *_: object) -> None:
        self._at = None

    def set(self, at: float) -> None:
        self._at = at

    def is_due(self, elapsed: float) -> bool:
        return self._at is not None and self._at <= elapsed

    def ring(self) -> None:
        self._at = None
        self._ring()


class VirtualWakeups:
    """A worker that listens and hears nothing: its floor is used, and each notification is a lost one."""

    hears = True

    def __init__(self, poll_seconds: float) -> None:
        self._poll_seconds = poll_seconds

    def pause(self, due_in: float | None, empty_looks: int) -> float:
        del empty_looks
        return self._poll_seconds if due_in is None else min(self._poll_seconds, max(0.0, due_in))

    def pause_when_full(self) -> float:
        return self._poll_seconds

    async def run(self, stopping: asyncio.Event) -> None:
        await stopping.wait()

    async def close(self) -> None:
        """Nothing is open."""


@contextmanager
def virtual_clocks(time: VirtualTime, rng: random.Random) -> Iterator[None]:
    """The engine's own clocks and dice for the length of the block."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(performing, "random", rng)
        for module in (claim_loop, own_worker, starts, turns):
            patch.setattr(module, "monotonic", time.monotonic)
        for module in (claiming, own_worker, quarantine, rescuer):
            patch.setattr(module, "boot_seconds", time.monotonic)
        patch.setattr(own_worker, "PATIENCE", 3600)  # who waits too long for an answer gives up by the stepper's time
        patch.setattr(suspicion, "GRACE_SECONDS", GRACE_SECONDS)
        patch.setattr(starts, "Alarm", VirtualAlarm)
        yield


class WatchedExecutor(Executor):
    """Knows whose coroutine begins: its first step comes before anything else gets a turn."""

    current: HeldJob

    async def _run(self, held: HeldJob, me: asyncio.Task[None]) -> bool:
        self.current = held
        return await super()._run(held, me)


@dataclass(slots=True, eq=False)
class Run:
    """One coroutine of a job, from its start to its end."""

    held: HeldJob
    worker: VirtualWorker
    kind: str
    gate: asyncio.Future[None]
    last_words: asyncio.Future[None] | None = None

    @property
    def job_id(self) -> str:
        return self.held.job.job_id

    @property
    def token(self) -> int:
        return self.held.job.token

    @property
    def is_told_of_its_death(self) -> bool:
        """Whether its worker was buried since, and has told it to end: it may linger beside its successor."""
        return self.held.stop_reason is not None and self.held.job.worker_id != self.worker.lease.worker_id

    def end(self, error: Exception | None = None) -> None:
        gate = self.last_words or self.gate
        if not gate.done() and error is not None:
            gate.set_exception(error)
        elif not gate.done():
            gate.set_result(None)


@dataclass(slots=True)
class Watch:
    """Every start of a job over all workers, held against what the history says."""

    judge: Judge
    time: VirtualTime
    runs: list[Run] = field(default_factory=list)
    broken: list[Broken] = field(default_factory=list)
    stop_asked: dict[int, float] = field(default_factory=dict)

    def begin(self, worker: VirtualWorker, held: HeldJob, kind: str) -> Run:
        try:
            self._judge_start(worker, held)
        except Broken as error:  # the executor would make a failed job of it
            self.broken.append(error)
        self.judge.started.add(held.job.token)
        return Run(held, worker, kind, asyncio.get_running_loop().create_future())

    def _judge_start(self, worker: VirtualWorker, held: HeldJob) -> None:
        job = held.job
        require(job.token not in self.judge.started, f"{job.job_id}@{job.token} starts twice")
        require(not worker.is_frozen, "the stepper let a frozen worker run")
        early = job.execution_time > self.time.now
        require(not early or self._misled(worker, job.token), f"I5 {job.job_id} starts before it is due")
        require(
            job.token not in self.judge.given_back, f"a ghost that was handed back starts: {job.job_id}@{job.token}"
        )
        require(worker.believes_in_its_lease, f"{job.job_id} starts without a lease")
        for other in self.runs:
            if other.job_id == job.job_id and self._is_entitled(other):
                raise Broken(f"{job.job_id} starts on {worker.name} while it runs on {other.worker.name}")
        self._judge_company(worker, job.token)
        self._judge_key(job.token)

    def _judge_company(self, worker: VirtualWorker, token: int) -> None:
        """A job that has outlived two workers starts on one that holds nothing else, and nothing starts beside it."""
        held = worker.slots.tokens()
        alone = {token for token in held if self.judge.claims[token].is_poison}
        require(not alone or held == {token}, f"{token} starts among {sorted(held)}, of which {alone} run alone")

    def _judge_key(self, token: int) -> None:
        """Of the coroutines of a key there are never more than its limit, as it was at the claim, on living workers."""
        claim = self.judge.claims[token]
        if claim.key is None:
            return
        earlier = [run for run in self.runs if run.token < token and self._is_entitled(run)]
        others = sum(self.judge.claims[run.token].key == claim.key for run in earlier)
        require(others < claim.limit, f"{others} others of {claim.key} run when {claim.job_id} starts")

    def _misled(self, worker: VirtualWorker, token: int) -> bool:
        """Whether the database's clock was set back, unknown to the worker: prefetched jobs may be early then."""
        known_at = min(self.judge.claims[token].elapsed, worker.looked_at - WINDOW_SECONDS)
        return self.time.set_back_at >= known_at

    def is_stale(self, run: Run) -> bool:
        """Whether its outcome can no longer count."""
        known = self.judge.jobs.get(run.job_id)
        return known is None or (known.status, known.token) != ("running", run.token)

    def _is_entitled(self, run: Run) -> bool:
        """Whether nothing excuses that this coroutine still runs beside another of its job."""
        asked = self.stop_asked.get(run.token)
        waited_for = asked is None or self.time.elapsed - asked < STOP_WAIT_SECONDS - 1
        if run.is_told_of_its_death:
            return False
        no_jump = self.time.set_forward_at < run.worker.beat_at
        return run.worker.believes_in_its_lease and run.worker.holds(run.token) and waited_for and no_jump


class VirtualWorker:
    """One process; a freeze stops it, a kill ends it, a beat that comes too late gives it a new incarnation."""

    def __init__(
        self,
        name: str,
        *,
        config: EngineConfig,
        time: VirtualTime,
        watch: Watch,
        waiting: list[Call],
        server: VirtualServer,
        backend: Backend,
        tick_backend: Backend,
        lingers: Callable[[], bool],
    ) -> None:
        self.name = name
        self.config = config
        self.tick_backend = tick_backend
        self.frozen_until = self.beat_at = time.elapsed
        self.trouble_at = self.looked_at = time.elapsed
        self.leaving = self.gone = self.misses_somebody = False
        self.strands: dict[str, asyncio.Task[Any]] = {}
        self._time, self._watch = time, watch
        self._waiting = waiting
        self._server = server
        self._backend = backend
        self._lingers = lingers
        self._incarnations = count(1)
        self._wire()

    def _wire(self) -> None:
        """As ``_wiring.wire_engine``, over parked links."""
        registry, wake = Registry(), asyncio.Event()

        async def task(kind: str) -> None:
            await self._run(self._executor.current, kind)

        registry.add(task, TASK)
        self.lease = Lease(self.config.lease_seconds, clock=self._time.monotonic)
        self.ghosts, clock = Ghosts(), DatabaseClock(clock=self._time.monotonic)
        self.slots = Slots(self.config.slots, on_release=lambda: None)
        self.completions = Completions(self._jobs("flush"))
        calls = Calls(registry, make_context=_no_context, offloading=Offloading(self.config.slots))
        self._executor = WatchedExecutor(Performer(calls, environment=Environment({})), self.slots, self.completions)
        self.starts = Starts(self._executor, self.slots, clock, lease=self.lease)
        claims = self._jobs("claim")
        quarantine = Quarantine(
            claims,
            self.slots,
            registry,
            lease=self.lease,
            ghosts=self.ghosts,
            config=self.config,
            clock=self._time.monotonic,
        )
        floor = Floor(clock=self._time.monotonic)
        claiming = Claiming(
            self.starts,
            self.slots,
            registry,
            lease=self.lease,
            ghosts=self.ghosts,
            clock=clock,
            config=self.config,
        )
        self.own_worker = OwnWorker(
            claiming,
            self.starts,
            self.slots,
            quarantine=quarantine,
            lease=self.lease,
            ghosts=self.ghosts,
            clock=clock,
            config=self.config,
            on_idle=self.completions.hurry,
        )
        self.claim_loop = ClaimLoop(
            claiming,
            claims,
            self.starts,
            self.slots,
            registry,
            beside=self._jobs("claim beside"),
            lease=self.lease,
            clock=clock,
            floor=floor,
            quarantine=quarantine,
            config=self.config,
            wakeups=VirtualWakeups(self.config.poll_seconds),
            wake=wake,
            overdue=asyncio.Event(),
            on_look=self._look,
            on_idle=self.completions.hurry,
        )
        sweeping = LinkedDatabase(self._link("sweep"))
        self.rescuer = Rescuer(WorkerStore(sweeping), self._jobs("sweep"), own_lease=self.lease, config=self.config)
        self.suspicion = Suspicion(
            WorkerStore(LinkedDatabase(self._link("suspect"))), own_lease=self.lease, sweep_in=self.rescuer.sweep_in
        )
        ticking = LinkedDatabase(self._link("tick", self.tick_backend))
        schedules = ScheduleStore(ticking)
        periodic = PeriodicJobs(schedules, dict, tenant="", on_triggered=wake.set)
        self.ticker = Ticker(
            ticking, schedules, periodic, lease=self.lease, config=self.config, wake=wake, on_ticked=wake.set
        )
        self._heart_link = self._link("heart")
        self.heart = LeaseStore(cast("Connection", self._heart_link), place="")
        self._stopping = asyncio.Event()
        self._starting = asyncio.get_running_loop().create_task(self.starts.run(self._stopping))
        self._owning = asyncio.get_running_loop().create_task(self.own_worker.run(self._stopping))

    def _link(self, strand: str, backend: Backend | None = None) -> Link:
        return Link(self.name, strand, backend or self._backend, self._time, self._waiting)

    def _jobs(self, strand: str) -> JobStore:
        return JobStore(self._link(strand), wake_within_seconds=self.config.poll_seconds)

    @property
    def is_frozen(self) -> bool:
        return self._time.elapsed < self.frozen_until

    @property
    def believes_in_its_lease(self) -> bool:
        """Reckoned here from the beats that were answered, not by ``Lease``."""
        return not self.gone and self._time.elapsed - self.beat_at < self.config.lease_seconds

    @property
    def may_judge_others(self) -> bool:
        """Whether it has beaten without a gap for a whole lease."""
        return self.believes_in_its_lease and self._time.elapsed - self.trouble_at >= self.config.lease_seconds

    @property
    def heart_backend(self) -> HeartBackend | None:
        return self._heart_link.heart

    @property
    def is_beat_due(self) -> bool:
        """At its time, and at once when the connection is lost."""
        return self._heart_link.heart is None or self._time.elapsed - self.beat_at >= self.config.beat_seconds

    def unsettled(self) -> list[str]:
        """Jobs of outcomes that wait to be written, or to be heard of."""
        return [job.job_id for job, _ in self.completions._waiting.values()]

    def holds(self, token: int) -> bool:
        return token in self.slots.tokens()

    def is_free(self, strand: str) -> bool:
        return not self.gone and not self.is_frozen and strand not in self.strands

    def begin(self, strand: str, work: Coroutine[Any, Any, Any]) -> None:
        self.strands[strand] = asyncio.get_running_loop().create_task(work)

    def reap(self) -> None:
        """Forget the strands that have ended; an outage ends one, anything else is a fault."""
        for strand, task in list(self.strands.items()):
            if task.done():
                del self.strands[strand]
                error = None if task.cancelled() else task.exception()
                if error is not None and not isinstance(error, DatabaseUnreachable):
                    raise error
        if self._starting.done() and not self._starting.cancelled() and self._starting.exception():
            raise Broken("the starts have died") from self._starting.exception()

    def ring(self) -> bool:
        """Ring the alarm of the jobs that wait for their time, if it is due."""
        alarm = cast("VirtualAlarm | None", self.starts._alarm)
        if self.gone or self.is_frozen or alarm is None or not alarm.is_due(self._time.elapsed):
            return False
        alarm.ring()
        return True

    async def beat(self) -> None:
        """Or register, if it has not yet."""
        await self._while_connected(self._beat if self.lease.worker_id else self._incarnate)

    async def check_held(self) -> None:
        await self._while_connected(self._check_held)

    async def _while_connected(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """As ``Heartbeat._beat_until_stopped``: what fails makes the lease unsure, and costs the connection."""
        try:
            if self._heart_link.heart is None:
                self._heart_link.heart = self._server.connect()
            await work()
        except DatabaseUnreachable:
            self.lease.miss()
            self.trouble_at = self._time.elapsed
            self.hang_up()

    def hang_up(self) -> None:
        self._server.leave(self._heart_link.heart)
        self._heart_link.heart = None

    async def _beat(self) -> None:
        """As ``Heartbeat.beat``."""
        sent_at, held, server = self._time.elapsed, self.slots.tokens(), self.heart.server_started_at
        listed = await self.heart.beat(self.lease.worker_id, self.config.lease_seconds, [TASK])
        if listed is None:
            await self._live_again()
            return
        self.lease.acknowledge(sent_at, self.heart.server_started_at)
        if sent_at - self.beat_at >= self.config.lease_seconds or server != self.heart.server_started_at:
            self.trouble_at = sent_at
        self.beat_at = sent_at
        self.slots.stop(held - listed, StopReason.LOST)
        known = self.slots.tokens() | self.completions.tokens()
        ghosts = self.ghosts.observe(sent_at, listed - known)
        if ghosts:
            await self.heart.release_ghosts(self.lease.worker_id, ghosts)

    async def _live_again(self) -> None:
        """As ``Heartbeat._live_again``: what is finished is written first, by the strand that writes."""
        self.lease.lose()
        if self.completions.tokens() and "flush" not in self.strands:
            self.begin("flush", self.completions.run_once())
        if "flush" in self.strands:
            await asyncio.wait([self.strands["flush"]])
        self.slots.stop(self.slots.tokens(), StopReason.LOST)
        await self._incarnate()

    async def _check_held(self) -> None:
        held = self.slots.tokens()
        self.slots.stop(held - await self.heart.held_tokens(self.lease.worker_id), StopReason.LOST)

    async def _incarnate(self) -> None:
        sent_at = self._time.elapsed
        card = WorkerCard(
            worker_id=f"{self.name}.{next(self._incarnations)}",
            tenant="",
            queues=self.config.queues,
            schedules=[],
            slots=self.config.slots,
            version="0",
            pod=None,
            pod_uid=None,
        )
        await self.heart.register(card, [TASK], self.config.lease_seconds)
        self.lease.begin(card.worker_id, sent_at, self.heart.server_started_at)
        self.beat_at = self.trouble_at = sent_at

    async def retire(self) -> None:
        """The end of an orderly shutdown."""
        with contextlib.suppress(DatabaseUnreachable):
            await self.heart.retire(self.lease.worker_id)
        self.gone = True
        self.hang_up()

    def _look(self, ahead: Ahead) -> None:
        self.looked_at = self._time.elapsed
        self.own_worker.observe(ahead)
        self.misses_somebody |= ahead.missing

    async def suspect(self) -> None:
        self.misses_somebody = False
        await self.suspicion.run_once()

    async def submit(self, job: NewJob) -> bool:
        """As ``Submission``, of a job that this worker takes; whether the id was free."""
        return await self.own_worker.submit(self._jobs("submit"), job) is not None

    def stop_taking(self) -> None:
        """The beginning of it: what waits for its time or runs is handed back."""
        self.leaving = True
        self._stopping.set()

    async def _run(self, held: HeldJob, kind: str) -> None:
        run = self._watch.begin(self, held, kind)
        if kind == "quick":
            return
        self._watch.runs.append(run)
        try:
            await run.gate
        except asyncio.CancelledError:
            if not self.gone and self._lingers():
                run.last_words = asyncio.get_running_loop().create_future()
                await run.last_words
            raise
        finally:
            self._watch.runs.remove(run)

    async def kill(self) -> None:
        """No word of it any more: what it had sent may still arrive, what it awaited never does."""
        self.gone = True
        self.hang_up()
        tasks = [*self.strands.values(), self._starting, self._owning, *self._executor._runners]
        self.strands.clear()
        for _ in range(2):  # a coroutine that was lingering at its cancellation is cancelled again
            for task in tasks:
                task.cancel()
            await settle()
        await asyncio.gather(*tasks, return_exceptions=True)


def _no_context(*_: object) -> JobContext:
    raise AssertionError("the stepper's task takes no context")
