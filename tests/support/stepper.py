"""Drive two to four workers statement by statement, with the losses of real life, and judge every change.

Invariants: a run is determined by its seed; after each step those of ``job_history`` and ``virtual_worker.Watch`` hold.
*Safety*: anything may happen. *Liveness*: the faults end, and every job comes to its end within the bound I9.

What may happen is in ``steps``.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from itertools import count
from typing import TYPE_CHECKING, Any, TypeVar

import asyncpg

from pg_scheduler._domain import codec
from pg_scheduler._domain.jobs import NewJob
from pg_scheduler._domain.rules import Interval
from pg_scheduler._domain.schedules import ScheduleDefinition, ScheduleKey, Template
from pg_scheduler._engine.config import EngineConfig
from pg_scheduler._engine.floor import BELIEVED_SECONDS
from pg_scheduler._store.jobs import JobStore
from pg_scheduler._store.schedules import ScheduleStore
from pg_scheduler.errors import DatabaseUnreachable
from support.changes import Broken, require
from support.job_history import ENDED, FENCED, INSTALL, SILENT, Judge
from support.judged_workers import Workers
from support.parked import (
    LOCK_TIMEOUT,
    STAND_INS,
    Backend,
    Call,
    HeartBackend,
    Link,
    LinkedDatabase,
    VirtualServer,
    VirtualTime,
    settle,
)
from support.virtual_worker import (
    GRACE_SECONDS,
    STOP_WAIT_SECONDS,
    TASK,
    Run,
    VirtualWorker,
    Watch,
    virtual_clocks,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

T = TypeVar("T")

CONFIG = EngineConfig(lease_seconds=6.0, slots=3, claim_limit=2, poll_seconds=5.0, max_interruptions=3)
WORKERS_MIN, WORKERS_MAX = 2, 4
WORKERS_USUAL = 3
OPEN_JOBS_MAX = 10
KINDS = ["quick", "waits", "waits", "waits", "poison"]
"""What a job does: return at once, wait to be told, or end the process as soon as it can."""
KEYED = 0.4
SHOWN_STEPS = 30
SLOW_REPLIES = 0.08
IN_VAIN = 0.1
RESENDS = 0.5
ROUND_SECONDS = 0.5
BACKLOG = timedelta(seconds=2 * OPEN_JOBS_MAX)
BOUND = BACKLOG + timedelta(
    seconds=2 * CONFIG.lease_seconds + CONFIG.sweep_seconds + STOP_WAIT_SECONDS + BELIEVED_SECONDS
)
"""I9: a death is noticed after a lease, by a survivor whose own lease has held for one, in its next sweep; a coroutine
of which nobody reports the end is waited for; what lies below a floor is not seen while the floor is believed in; a
round takes at most what all slots hold."""


class Stepper:
    """One seeded run over one database."""

    def __init__(self, seed: int, dsn: str) -> None:
        self.seed = seed
        self.rng = random.Random(seed)  # noqa: S311  to be repeated, not to be secret
        self.time = VirtualTime()
        self.server = VirtualServer(self.time)
        workers = Workers(self.server, timedelta(seconds=CONFIG.lease_seconds), timedelta(seconds=GRACE_SECONDS))
        self.judge = Judge(self.time, workers, CONFIG.max_interruptions)
        self.watch = Watch(self.judge, self.time)
        self.waiting: list[Call] = []
        self.strays: list[Call] = []
        self.workers: list[VirtualWorker] = []
        self.acknowledged: set[str] = set()
        self.unknown: list[NewJob] = []
        self.steps_done = 0
        self.last_steps: deque[str] = deque(maxlen=SHOWN_STEPS)
        self.generation = 0
        self._dsn = dsn
        self._connections: list[asyncpg.Connection[asyncpg.Record]] = []
        self._tick_backends: list[Backend] = []
        self._names = count(1)
        self._job_numbers = count(1)

    @classmethod
    @asynccontextmanager
    async def over(cls, dsn: str, seed: int) -> AsyncIterator[Stepper]:
        """A stepper over an empty migrated database, with its first workers; whatever fails says how to repeat it."""
        stepper = cls(seed, dsn)
        with virtual_clocks(stepper.time, stepper.rng):
            try:
                await stepper._open()
                yield stepper
            except Exception as error:
                error.add_note(stepper.story())
                raise
            finally:
                await stepper._close()

    def story(self) -> str:
        """How to repeat the run, and how it ended."""
        return "\n".join(
            [
                f"seed {self.seed}, step {self.steps_done}: repeat with {self._repeat()}",
                *self.last_steps,
            ]
        )

    def _repeat(self) -> str:
        return f"make chaos-steps SEED={self.seed} STEPS={self.steps_done}"

    def look_around(self) -> None:
        """What has ended, and what has begun that must not."""
        for worker in self.workers:
            worker.reap()
        if self.watch.broken:
            raise self.watch.broken[0]

    async def drain(self) -> None:
        """Liveness: the faults end, and what is open ends within the bound."""
        await self._heal()
        due_at = self.time.now
        while opened := [job.execution_time for job in self.judge.jobs.values() if job.status not in ENDED]:
            due_at = max(due_at, *opened)  # a retry is due later than what it follows
            await self._round()
            await self._pass_time(ROUND_SECONDS if self._is_busy() else CONFIG.beat_seconds)
            require(self.time.now <= due_at + BOUND, f"I9 not drained within {BOUND}: {self._open_jobs()}")
        for _ in range(3):
            await self._pass_time(CONFIG.beat_seconds)
            await self._round()
        require(not self.watch.runs, f"never told to stop: {[run.job_id for run in self.watch.runs]}")
        await self._judge_the_table()

    async def execute(self, call: Call) -> None:
        """Let the statement reach the database, and judge what it does there."""
        backend = call.link.backend
        self.waiting.remove(call) if call in self.waiting else self.strays.remove(call)
        if call.heart is not None and not self.server.has(call.heart):
            await self.lose(call)
            return
        try:
            call.reply = await backend.run(call.method, call.query, call.values, call.heart)
        except asyncpg.PostgresError as error:
            raise Broken(f"{call}: {type(error).__name__}: {error}") from error
        call.executed = True
        if call.name == "COMMIT":
            done, call.link.journal = call.link.journal, []
            for earlier, changes in done:
                self.judge.judge(earlier, changes)
            self._judge_ticks([earlier for earlier, _ in done])
            return
        changes = [] if call.name in SILENT else await self.judge.read(backend)
        if call.is_in_transaction:
            call.link.journal.append((call, changes))
        else:
            self.judge.judge(call, changes)
            if changes:
                await self.judge.judge_slots(backend)
            self._note_stops()

    async def lose(self, call: Call) -> None:
        """Its sender hears no more of it; the server ends a transaction whose client has gone."""
        if call in self.waiting:
            self.waiting.remove(call)
        if call.is_in_transaction:
            await self.roll_back(call.link)
        call.fail()

    async def lose_all(self) -> None:
        """Every session ends."""
        for worker in self.workers:
            await worker.tick_backend.roll_back()
        for call in list(self.waiting):
            call.link.journal.clear()
            await self.lose(call)

    async def roll_back(self, link: Link) -> None:
        link.journal.clear()
        await link.backend.roll_back()

    async def ask(self, work: Callable[[JobStore, ScheduleStore], Coroutine[Any, Any, T]]) -> T | None:
        """A client's call, in one step; None when it does not learn what came of it."""
        link = Link("client", "", self._clients, self.time, self.waiting)
        database = LinkedDatabase(link)
        task = asyncio.get_running_loop().create_task(
            work(JobStore(link, wake_within_seconds=CONFIG.poll_seconds), ScheduleStore(database))
        )
        try:
            return await self._see_through(task, link)
        finally:
            task.cancel()

    async def _see_through(self, task: asyncio.Task[T], link: Link) -> T | None:
        while True:
            await settle()
            if task.done():
                return None if isinstance(task.exception(), DatabaseUnreachable) else task.result()
            (call,) = [call for call in self.waiting if call.link is link]
            fate = self.rng.random() if call.name not in {"BEGIN", "COMMIT"} else 1.0
            if fate > 0.02 and not self.server.is_out:
                await self.execute(call)
            if fate < 0.04 or self.server.is_out:
                await self.lose(call)
            else:
                call.deliver()

    async def spawn(self) -> VirtualWorker:
        worker = VirtualWorker(
            f"w{next(self._names)}",
            config=CONFIG,
            time=self.time,
            watch=self.watch,
            waiting=self.waiting,
            server=self.server,
            backend=self._main,
            tick_backend=self._tick_backends.pop(),
            lingers=lambda: self.rng.random() < 0.3,
        )
        self.workers.append(worker)
        worker.begin("heart", worker.beat())
        await settle()
        return worker

    async def end_backend(self, backend: HeartBackend) -> None:
        """What was on its way over it never arrives."""
        self.server.end(backend)
        self.strays[:] = [call for call in self.strays if call.heart != backend]
        for call in [call for call in self.waiting if call.heart == backend and not call.executed]:
            await self.lose(call)

    async def remove(self, worker: VirtualWorker) -> None:
        """It is gone; some of what it had sent is still on its way."""
        await worker.kill()
        self.workers.remove(worker)
        for call in [call for call in self.waiting if call.link.owner == worker.name]:
            self.waiting.remove(call)
            if call.is_in_transaction:
                await self.roll_back(call.link)
            elif not call.executed and self.rng.random() < 0.5:
                self.strays.append(call)
        await worker.tick_backend.roll_back()
        self._tick_backends.append(worker.tick_backend)

    def some_call(self, *, executed: bool, of_heart: bool = False) -> Call | None:
        """One that may go on: an answer waits for a frozen process to read it."""
        frozen = {worker.name for worker in self.workers if worker.is_frozen} if executed else set()
        calls = [
            call
            for call in self.waiting
            if call.executed == executed and call.link.owner not in frozen and call.slow <= self.steps_done
            if call.heart is not None or not of_heart
        ]
        return self.rng.choice(calls) if calls else None

    def some_outcome(self) -> Call | None:
        """A written outcome of which its worker has not heard: lost now, it is sent again later, against the fence."""
        calls = [call for call in self.waiting if call.executed and call.name in FENCED | {"report_stopped"}]
        return self.rng.choice(calls) if calls else None

    def some_worker(self, strand: str, *, taking: bool = False) -> VirtualWorker | None:
        """One that may begin a pass of this strand."""
        free = [worker for worker in self.workers if worker.is_free(strand) and not (taking and worker.leaving)]
        return self.rng.choice(free) if free else None

    def tries_in_vain(self) -> bool:
        """Whether to take a step of which nothing can come: seldom, or nothing else is met."""
        return self.rng.random() < IN_VAIN

    def some_job(self, *statuses: str) -> str | None:
        ids = [job_id for job_id, job in self.judge.jobs.items() if not statuses or job.status in statuses]
        return self.rng.choice(ids) if ids else None

    def some_ended_run(self) -> str | None:
        """A job whose outcome a worker does not know to be written: what happens to it now meets a resend."""
        ids = [job_id for worker in self.workers for job_id in worker.unsettled() if job_id in self.judge.jobs]
        return self.rng.choice(ids) if ids and self.rng.random() < RESENDS else None

    def end(self, run: Run, *, errors: float) -> str:
        error = RuntimeError("as told") if self.rng.random() < errors else None
        run.end(error)
        return f"{run.worker.name}: {run.job_id}@{run.token} {'raises' if error else 'returns'}"

    def claimable_jobs(self) -> int:
        """Jobs that wait for nothing but a worker, or have one."""
        soon = self.time.now + timedelta(seconds=CONFIG.lease_seconds)
        return sum(
            job.status not in ENDED and job.execution_time < soon and job.stopping is None
            for job in self.judge.jobs.values()
        )

    def new_job(self, job_id: str) -> NewJob:
        due_in = self.rng.choice([-1.0, 0.0, 0.0, 0.1, 0.15, 0.5, 3.0])
        return NewJob(
            job_id=job_id,
            tenant="",
            queue="default",
            task=TASK,
            job_name="t",
            task_data=codec.encode((self.rng.choice(KINDS),), {}),
            execution_time=self.time.now + timedelta(seconds=due_in),
            priority=self.rng.choice([1, 3, 5, 8]),
            max_retries=self.rng.choice([0, 0, 1, 2]),
            retry_policy=self.rng.choice([None, '{"initial": 1}']),
            misfire_grace_time=self.rng.choice([None, None, None, 4]),
            **self._turn_of_a_key(),
        )

    def _turn_of_a_key(self) -> dict[str, Any]:
        """For some jobs: which key, its limit from now on, and what to do where it is full."""
        if self.rng.random() > KEYED:
            return {}
        return {
            "concurrency_key": self.rng.choice(["k", "l"]),
            "concurrency_limit": self.rng.choice([None, None, 1, 2, 3]),
            "on_full": self.rng.choice(["wait", "skip", "queue", "replace"]),
        }

    def next_job_id(self) -> str:
        return f"j{next(self._job_numbers)}"

    def ticker_is_open(self) -> bool:
        """Whether a transaction holds locks on schedules, for which a client would wait."""
        return any(worker.tick_backend.connection.is_in_transaction() for worker in self.workers)

    async def pass_time(self, seconds: float) -> None:
        await self._pass_time(seconds)

    async def _pass_time(self, seconds: float) -> None:
        """Time goes on; who has waited too long for an answer gives up. Who wakes up first reads what has come."""
        slept = {worker.name for worker in self.workers if worker.is_frozen}
        self.time.elapsed += seconds
        frozen = {worker.name for worker in self.workers if worker.is_frozen}
        for call in self.waiting:
            if call.executed and call.link.owner in slept - frozen:
                call.sent_at = self.time.elapsed
        patience = 2 * CONFIG.command_seconds
        for call in [call for call in self.waiting if call.link.owner not in frozen]:
            if self.time.elapsed - call.sent_at > patience:
                if call.executed or call.is_in_transaction or self.rng.random() < 0.5:
                    await self.lose(call)
                else:
                    await self.abandon(call)

    async def abandon(self, call: Call) -> None:
        """Its sender gives it up, and it reaches the database later."""
        self.waiting.remove(call)
        self.strays.append(call)
        call.fail()

    async def _open(self) -> None:
        for _ in range(2 + WORKERS_MAX):
            connection = await asyncpg.connect(self._dsn)
            await connection.execute(
                f"SET lock_timeout = '{LOCK_TIMEOUT}'; SET search_path = public, pg_catalog;"
                f"SET stepper.now = '{self.time.now.isoformat()}'"
            )
            self._connections.append(connection)
        await self._connections[0].execute(STAND_INS + INSTALL)
        self._main, self._clients, *self._tick_backends = [
            Backend(connection, self.time, self.server) for connection in self._connections
        ]
        for _ in range(WORKERS_MIN + self.rng.randrange(2)):
            await self.spawn()

    async def _close(self) -> None:
        for worker in self.workers:
            await worker.kill()
        for connection in self._connections:
            connection.terminate()

    def note(self, said: str) -> None:
        self.last_steps.append(f"  {self.steps_done:6} {self.time.elapsed:9.3f} {self.time.now:%M:%S.%f} {said}")

    def _note_stops(self) -> None:
        """From now on the coroutine of a cancelled or replaced job may be waited for, but not for ever."""
        for run in self.watch.runs:
            if self.watch.is_stale(run):
                self.watch.stop_asked.setdefault(run.token, self.time.elapsed)

    def _judge_ticks(self, calls: list[Call]) -> None:
        """I6 by a scan of its own: what a ticker was to make of the schedules that it locked."""
        replies = {call.name: call.reply for call in calls}
        if "due_schedules" not in replies:
            return
        inserted: set[datetime] = {at for call in calls if call.name == "insert_ticks" for at in call.values[2]}
        for row in replies["due_schedules"]:  # of one schedule, as there is no other
            self._judge_schedule(row, replies["now"], inserted)

    def _judge_schedule(self, row: asyncpg.Record, now: datetime, inserted: set[datetime]) -> None:
        every, made = timedelta(seconds=row["interval_seconds"]), self.judge.ticks_made[row["id"]]
        owed, tick = set[datetime](), row["anchor_at"] + every
        while tick <= now + timedelta(seconds=CONFIG.poll_seconds):
            if row["last_tick_at"] is None or tick > row["last_tick_at"]:
                owed = {at for at in owed if at > now} if tick <= now else owed
                owed.add(tick)
            tick += every
        require(owed <= made, f"I6 the ticks {sorted(owed - made)} of schedule {row['id']} are lost")
        require(
            not {at for at in inserted if at <= row["anchor_at"] or (at - row["anchor_at"]) % every}, "I6 no such tick"
        )

    async def _heal(self) -> None:
        self.server.out_until = 0.0
        for stray in list(self.strays):
            await self.execute(stray)
        for worker in self.workers:
            worker.frozen_until = self.time.elapsed
        await self._pump()
        await self.ask(lambda _, schedules: schedules.delete(schedule_key()))
        if all(worker.leaving for worker in self.workers):
            if len(self.workers) == WORKERS_MAX:
                await self.remove(self.workers[0])
            await self.spawn()
        for job in self.unknown:
            await self._submit_again(job)
        self.note("healed")

    async def _submit_again(self, job: NewJob) -> None:
        """I8: the same again leaves exactly one."""
        while await self.ask(lambda jobs, _: inserted(jobs, job)) is None:
            pass
        self.acknowledged.add(job.job_id)

    async def _round(self) -> None:
        """Every worker does what is its turn, and every job that runs ends."""
        for worker in list(self.workers):
            await self._turn(worker)
        await self._pump()

    async def _turn(self, worker: VirtualWorker) -> None:
        worker.ring()
        await settle()
        for run in [run for run in self.watch.runs if run.worker is worker]:
            if run.last_words or not self.watch.is_stale(run):  # else it is for the worker to end it
                run.end()
        await settle()
        if worker.completions.tokens() and worker.is_free("flush"):
            worker.begin("flush", worker.completions.run_once())
        if worker.is_free("heart"):
            worker.begin("heart", worker.beat() if worker.is_beat_due else worker.check_held())
        if not worker.leaving and worker.is_free("claim"):
            worker.begin("claim", worker.claim_loop._pass())
        if not worker.leaving and worker.is_free("sweep"):
            worker.begin("sweep", worker.rescuer.run_once())
        if worker.misses_somebody and not worker.leaving and worker.is_free("suspect"):
            worker.begin("suspect", worker.suspect())

    async def _pump(self) -> None:
        """Every statement arrives and is answered."""
        await settle()
        while self.waiting:
            call = self.waiting[0]
            if not call.executed:
                await self.execute(call)
            else:
                self.waiting.remove(call)
            call.deliver()
            await settle()
            self.look_around()

    def _is_busy(self) -> bool:
        return bool(self.watch.runs) or any(
            job.status == "running" or (job.status == "pending" and job.execution_time <= self.time.now)
            for job in self.judge.jobs.values()
        )

    def _open_jobs(self) -> dict[str, Any]:
        return {job_id: job for job_id, job in self.judge.jobs.items() if job.status not in ENDED}

    async def _judge_the_table(self) -> None:
        """I1: nothing acknowledged is missing, and the history told all."""
        rows = await self._main.connection.fetch("SELECT job_id, status FROM scheduled_jobs")
        table = {row["job_id"]: row["status"] for row in rows}
        require(
            table == {job_id: job.status for job_id, job in self.judge.jobs.items()}, "the history is not the table"
        )
        require(self.acknowledged <= table.keys(), f"I1 lost: {self.acknowledged - table.keys()}")


async def inserted(jobs: JobStore, job: NewJob) -> bool:
    """Whether the id was free."""
    return await jobs.insert(job) is not None


def schedule_key() -> ScheduleKey:
    return ScheduleKey(tenant="", kind="PeriodicJob", cluster="c", uid="s")


def schedule(generation: int, every_seconds: int, *, suspended: bool) -> ScheduleDefinition:
    return ScheduleDefinition(
        key=schedule_key(),
        name="s",
        generation=generation,
        rule=Interval(every_seconds),
        template=Template(
            task=TASK,
            job_name="s",
            payload=codec.encode(("quick",), {}),
            queue="default",
            priority=5,
            max_retries=0,
        ),
        suspended=suspended,
    )
