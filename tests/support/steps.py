"""What may happen while the stepper drives: the engine's own turns, what clients do, what goes wrong.

A step is one small function: it does one thing and says what, or None where it does not apply. A new one needs nothing
but ``@step(weight)``; a new statement needs its line in ``job_history.LEGAL``.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TYPE_CHECKING

from pg_scheduler._engine.slots import StopReason
from support.changes import require
from support.parked import SURFACE, settle
from support.stepper import (
    CONFIG,
    OPEN_JOBS_MAX,
    RESENDS,
    SLOW_REPLIES,
    WORKERS_MAX,
    WORKERS_MIN,
    WORKERS_USUAL,
    Stepper,
    inserted,
    schedule,
    schedule_key,
)

if TYPE_CHECKING:
    from pg_scheduler._domain.jobs import NewJob
    from pg_scheduler._store.jobs import JobStore

Step = Callable[[Stepper], Awaitable[str | None]]
STEPS: dict[Step, float] = {}
OF_HEART = 0.5


def step(weight: float) -> Callable[[Step], Step]:
    """Let the stepper choose this function, ``weight`` times as often as one of weight 1."""

    def register(function: Step) -> Step:
        STEPS[function] = weight
        return function

    return register


async def take_steps(s: Stepper, number: int) -> None:
    """Safety: anything goes."""
    functions, weights = list(STEPS), list(STEPS.values())
    end = s.steps_done + number
    while s.steps_done < end:
        (function,) = s.rng.choices(functions, weights)
        said = await function(s)
        if said is None:
            continue
        await settle()
        s.steps_done += 1
        s.note(said)
        s.look_around()


# What goes on all the time.


@step(60)
async def execute(s: Stepper) -> str | None:
    call = s.some_call(executed=False)
    if call is None:
        return None
    if s.server.is_out:
        await s.lose(call)
        return f"{call} meets an outage"
    await s.execute(call)
    if not call.executed:
        return f"{call} finds its backend gone"
    s.waiting.append(call)
    if s.rng.random() < SLOW_REPLIES:
        call.slow = s.steps_done + s.rng.randrange(50)
    return f"{call} reaches the database"


@step(60)
async def deliver(s: Stepper) -> str | None:
    call = s.some_call(executed=True)
    if call is None:
        return None
    s.waiting.remove(call)
    call.deliver()
    return f"{call} is answered"


@step(6)
async def advance(s: Stepper) -> str | None:
    seconds = s.rng.choice([0.02, 0.1, 0.15, 0.5, 1.0, 1.5])
    await s.pass_time(seconds)
    return f"{seconds} s pass"


@step(6)
async def ring(s: Stepper) -> str | None:
    rung = [worker.name for worker in s.workers if worker.ring()]
    return f"{', '.join(rung)}: prefetched jobs are due" if rung else None


@step(12)
async def claim(s: Stepper) -> str | None:
    worker = s.some_worker("claim", taking=True)
    if worker is None or not (worker.lease.is_valid or s.tries_in_vain()):
        return None
    worker.begin("claim", worker.claim_loop._pass())
    return f"{worker.name} looks for jobs"


@step(14)
async def beat(s: Stepper) -> str | None:
    """First who is due."""
    due = [worker for worker in s.workers if worker.is_free("heart") and worker.is_beat_due]
    worker = s.rng.choice(due) if due else s.some_worker("heart")
    if worker is None:
        return None
    worker.begin("heart", worker.beat())
    return f"{worker.name} beats"


@step(2)
async def check_held(s: Stepper) -> str | None:
    worker = s.some_worker("heart")
    if worker is None or not worker.lease.worker_id:
        return None
    worker.begin("heart", worker.check_held())
    return f"{worker.name} asks what it holds"


@step(10)
async def flush(s: Stepper) -> str | None:
    worker = s.some_worker("flush")
    if worker is None or not worker.completions.tokens():
        return None
    worker.begin("flush", worker.completions.run_once())
    return f"{worker.name} flushes"


@step(5)
async def sweep(s: Stepper) -> str | None:
    worker = s.some_worker("sweep", taking=True)
    if worker is None or not (worker.may_judge_others or s.tries_in_vain()):
        return None
    worker.begin("sweep", worker.rescuer.run_once())
    await settle()
    marks = any(call.link.owner == worker.name and call.name == "sweep_needs" for call in s.waiting)
    require(not marks or worker.may_judge_others, f"{worker.name} sweeps without a lease unbroken for one lease")
    return f"{worker.name} sweeps"


@step(8)
async def suspect(s: Stepper) -> str | None:
    looking = [w for w in s.workers if w.misses_somebody and w.is_free("suspect") and not w.leaving]
    if not looking:
        return None
    worker = s.rng.choice(looking)
    worker.begin("suspect", worker.suspect())
    await settle()
    asks = any(call.link.owner == worker.name and call.name == "suspect_workers" for call in s.waiting)
    require(
        not asks or worker.may_judge_others, f"{worker.name} suspects others without a lease unbroken for one lease"
    )
    return f"{worker.name} looks who is connected"


@step(3)
async def tick(s: Stepper) -> str | None:
    worker = s.some_worker("tick", taking=True)
    if worker is None or not (worker.lease.is_valid or s.tries_in_vain()):
        return None
    worker.begin("tick", worker.ticker.run_once())
    return f"{worker.name} ticks"


@step(5)
async def end_a_run(s: Stepper) -> str | None:
    runs = [run for run in s.watch.runs if not run.worker.is_frozen and run.kind != "poison"]
    if not runs:
        return None
    return s.end(s.rng.choice(runs), errors=0.5)


@step(1.5)
async def die_of_poison(s: Stepper) -> str | None:
    runs = [run for run in s.watch.runs if not run.worker.is_frozen and run.kind == "poison"]
    if not runs:
        return None
    run = s.rng.choice(runs)
    await s.remove(run.worker)
    return f"FAULT {run.job_id}@{run.token} kills {run.worker.name}"


@step(20)
async def end_a_run_that_is_lost(s: Stepper) -> str | None:
    """Before its worker has heard of it: here the fence is tried."""
    runs = [run for run in s.watch.runs if not run.worker.is_frozen and s.watch.is_stale(run)]
    return s.end(s.rng.choice(runs), errors=0.6) if runs else None


# What clients do.


@step(12)
async def submit(s: Stepper) -> str | None:
    if s.claimable_jobs() >= OPEN_JOBS_MAX:
        return None
    job = s.new_job(s.next_job_id())
    answer = await s.ask(lambda jobs, _: inserted(jobs, job))
    if answer is None:
        s.unknown.append(job)
    else:
        s.acknowledged.add(job.job_id)
    return f"client submits {job.job_id}: {answer}"


@step(12)
async def submit_to_own_worker(s: Stepper) -> str | None:
    """Where the submitting process has a worker with room."""
    if s.claimable_jobs() >= OPEN_JOBS_MAX:
        return None
    job = s.new_job(s.next_job_id())
    free = [worker for worker in s.workers if worker.is_free("submit") and not worker.leaving]
    taking = [worker for worker in free if worker.own_worker.takes(job)]
    if not taking:
        return None
    worker = s.rng.choice(taking)
    s.unknown.append(job)  # until it is answered
    worker.begin("submit", acknowledged(s, job, worker.submit(job)))
    return f"{worker.name} submits {job.job_id} to itself"


async def acknowledged(s: Stepper, job: NewJob, submission: Awaitable[bool]) -> None:
    await submission
    s.unknown.remove(job)
    s.acknowledged.add(job.job_id)


@step(0.4)
async def grow_old(s: Stepper) -> str | None:
    """As if two workers had died of it: by themselves the deaths are too rare."""
    job_id = s.some_job("pending")
    if job_id is None:
        return None
    await s.ask(lambda jobs, _: jobs._db.fetchval(SURFACE["outlive_two_workers"], job_id))
    return f"{job_id} has outlived two workers"


@step(0.8)
async def cancel(s: Stepper) -> str | None:
    job_id = s.some_ended_run() or (s.some_job() if s.rng.random() < 0.3 else s.some_job("running", "pending"))
    if job_id is None:
        return None
    return f"client cancels {job_id}: {await s.ask(lambda jobs, _: jobs.cancel(job_id))}"


@step(1)
async def replace(s: Stepper) -> str | None:
    job_id = s.some_ended_run() or (s.some_job() if s.rng.random() < 0.3 else s.some_job("running"))
    if job_id is None:
        return None
    return f"client replaces {job_id}: {await s.ask(lambda jobs, _: jobs.replace(s.new_job(job_id)))}"


@step(0.6)
async def replace_by_sql(s: Stepper) -> str | None:
    job_id = s.some_ended_run() or s.some_job("running") or s.some_job()
    if job_id is None or not job_id.startswith("j"):  # a tick's id is not for clients
        return None
    return f"client replaces {job_id} by SQL: {await s.ask(lambda jobs, _: enqueued(jobs, s.new_job(job_id)))}"


async def enqueued(jobs: JobStore, job: NewJob) -> str:
    """As an application in another language does it."""
    payload = json.loads(job.task_data)
    values = (job.job_id, job.task, json.dumps(payload["args"]), job.execution_time)
    answer: str = await jobs._db.fetchval(
        SURFACE["scheduler_enqueue"], *values, job.concurrency_key, job.concurrency_limit, job.on_full
    )
    return answer


@step(1)
async def run_again(s: Stepper) -> str | None:
    job_id = s.some_ended_run() or (s.some_job("failed", "cancelled") if s.rng.random() < 0.8 else s.some_job())
    if job_id is None:
        return None
    return f"client runs {job_id} again: {await s.ask(lambda jobs, _: jobs.run_again(job_id))}"


@step(1)
async def define_schedule(s: Stepper) -> str | None:
    if s.ticker_is_open():
        return None
    s.generation += 1
    wish = schedule(s.generation, s.rng.choice([2, 2, 3, 5]), suspended=s.rng.random() < 0.2)
    return f"client defines the schedule: {await s.ask(lambda _, schedules: schedules.upsert(wish))}"


@step(0.1)
async def delete_schedule(s: Stepper) -> str | None:
    if s.ticker_is_open():
        return None
    return f"client deletes the schedule: {await s.ask(lambda _, schedules: schedules.delete(schedule_key()))}"


# What goes wrong.


@step(0.3)
async def never_sent(s: Stepper) -> str | None:
    call = s.some_call(executed=False)
    if call is None:
        return None
    await s.lose(call)
    return f"FAULT {call} is never sent"


@step(1.5)
async def reply_lost(s: Stepper) -> str | None:
    call = s.some_outcome() if s.rng.random() < RESENDS else s.some_call(executed=True)
    if call is None:
        return None
    await s.lose(call)
    return f"FAULT {call}: the answer is lost"


@step(0.6)
async def given_up(s: Stepper) -> str | None:
    call = s.some_call(executed=False, of_heart=s.rng.random() < OF_HEART)
    if call is None or call.is_in_transaction:
        return None
    await s.abandon(call)
    return f"FAULT {call} is given up and stays on its way"


@step(1)
async def stray(s: Stepper) -> str | None:
    if not s.strays or s.server.is_out:
        return None
    call = s.rng.choice(s.strays)
    await s.execute(call)
    return f"FAULT {call} reaches the database when nobody waits for it"


@step(1)
async def freeze(s: Stepper) -> str | None:
    """Most often one that runs something, while another lives to take it over."""
    awake = [worker for worker in s.workers if not worker.is_frozen]
    if len(awake) < WORKERS_MIN:
        return None
    busy = [worker for worker in awake if any(run.worker is worker for run in s.watch.runs)]
    worker = s.rng.choice(busy or awake)
    seconds = s.rng.uniform(0.2, 2.5) * CONFIG.lease_seconds
    worker.frozen_until = s.time.elapsed + seconds
    return f"FAULT {worker.name} freezes for {seconds:.1f} s"


@step(0.05)
async def freeze_all(s: Stepper) -> str | None:
    """The host sleeps."""
    seconds = s.rng.uniform(0.5, 2.5) * CONFIG.lease_seconds
    if not s.workers:
        return None
    for worker in s.workers:
        worker.frozen_until = s.time.elapsed + seconds
    await s.pass_time(seconds)
    return f"FAULT all freeze for {seconds:.1f} s"


@step(0.3)
async def kill(s: Stepper) -> str | None:
    if not s.workers:
        return None
    worker = s.rng.choice(s.workers)
    await s.remove(worker)
    return f"FAULT {worker.name} is killed"


@step(4)
async def spawn(s: Stepper) -> str | None:
    wanted = s.rng.choice([WORKERS_MIN, WORKERS_USUAL, WORKERS_USUAL, WORKERS_MAX])
    if len(s.workers) >= wanted:
        return None
    return f"{(await s.spawn()).name} starts"


@step(0.15)
async def leave(s: Stepper) -> str | None:
    staying = [worker for worker in s.workers if not worker.leaving and not worker.is_frozen]
    if not staying:
        return None
    worker = s.rng.choice(staying)
    worker.stop_taking()
    return f"{worker.name} begins to shut down"


@step(4)
async def hand_back(s: Stepper) -> str | None:
    leaving = [worker for worker in s.workers if worker.leaving and worker.is_free("claim") and worker.slots.tokens()]
    if not leaving:
        return None
    worker = s.rng.choice(leaving)
    return f"{worker.name} hands {worker.slots.stop_all(StopReason.SHUTDOWN)} jobs back"


@step(8)
async def retire(s: Stepper) -> str | None:
    for worker in s.workers:
        idle = not worker.strands and not worker.slots.tokens() and not worker.completions.tokens()
        if worker.leaving and not worker.is_frozen and idle:
            worker.begin("heart", worker.retire())
            return f"{worker.name} retires"
        if worker.gone:
            await s.remove(worker)
            return f"{worker.name} has ended"
    return None


@step(0.15)
async def move_database_clock(s: Stepper) -> str | None:
    seconds = s.rng.choice([-60.0, -5.0, -0.1, 0.1, 5.0, 60.0])
    s.time.move_database_clock(timedelta(seconds=seconds))
    return f"FAULT the database's clock is moved by {seconds} s"


@step(0.6)
async def lose_heart_backend(s: Stepper) -> str | None:
    """Ended by an administrator or by the network; its worker lives."""
    known = [worker.heart_backend for worker in s.workers if worker.heart_backend is not None]
    backends = [backend for backend in known if s.server.has(backend)]
    if not backends:
        return None
    await s.end_backend(s.rng.choice(backends))
    return "FAULT the backend of a heartbeat is gone"


@step(3)
async def left_backend_ends(s: Stepper) -> str | None:
    """What had been sent over it comes before its end."""
    if not s.server.left or s.server.is_out:
        return None
    backend = s.rng.choice(s.server.left)
    for stray in [call for call in s.strays if call.heart == backend]:
        await s.execute(stray)
    await s.end_backend(backend)
    return "the server notices that a heartbeat has gone"


@step(0.08)
async def outage(s: Stepper) -> str | None:
    seconds = s.rng.uniform(0.1, 2.0) * CONFIG.lease_seconds
    s.server.out_until = s.time.elapsed + seconds
    await s.lose_all()
    return f"FAULT the database goes away for {seconds:.1f} s"


@step(0.1)
async def restart(s: Stepper) -> str | None:
    """So quickly that nobody has missed a beat: everybody seems to have gone."""
    await s.lose_all()
    s.server.restart()
    s.strays.clear()
    return "FAULT the server restarts"
