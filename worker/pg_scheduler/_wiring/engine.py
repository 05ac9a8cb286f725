"""A worker that runs by itself: the services, what wakes them, and who hears of what they find."""

import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from pg_scheduler._engine.clock import SkewWatch
from pg_scheduler._engine.environment import Environment
from pg_scheduler._engine.executor import Executor
from pg_scheduler._engine.heartbeat import Heartbeat
from pg_scheduler._engine.lease import Lease
from pg_scheduler._engine.lifecycle import Lifecycle, Service, Services
from pg_scheduler._engine.own_worker import OwnWorker
from pg_scheduler._engine.performing import Performer
from pg_scheduler._engine.rescuer import Rescuer
from pg_scheduler._engine.slots import Slots
from pg_scheduler._engine.suspicion import Suspicion
from pg_scheduler._engine.vacuumer import Vacuumer
from pg_scheduler._engine.vitals import Vitals, look
from pg_scheduler._store.jobs import Ahead
from pg_scheduler._store.schedules import ScheduleStore
from pg_scheduler._store.vacuum import VacuumStore
from pg_scheduler._store.wakeups import JOBS_CHANNEL, OVERDUE_CHANNEL, SCHEDULES_CHANNEL, Bell
from pg_scheduler._store.workers import WorkerCard, WorkerStore
from pg_scheduler._wiring.basis import WorkerBasis
from pg_scheduler._wiring.lines import Lines, open_lines
from pg_scheduler._wiring.work import Wakes, WorkParts, wire_work
from pg_scheduler.errors import MainLoopStalled
from pg_scheduler.tasks import Registry
from pg_scheduler.vacuum import VacuumConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineParts:
    """What a running worker consists of, on connections of its own."""

    lease: Lease
    slots: Slots
    rescuer: Rescuer
    heartbeat: Heartbeat
    schedules: ScheduleStore
    lifecycle: Lifecycle
    executor: Executor
    own_worker: OwnWorker
    vitals: Callable[[], Vitals]
    close: Callable[[], Awaitable[None]]


async def wire_engine(
    basis: WorkerBasis,
    card: WorkerCard,
    retention: VacuumConfig | None,
    *,
    new_worker_id: Callable[[], str],
    on_stall: Callable[[MainLoopStalled], None],
) -> EngineParts:
    """A worker on connections of its own, to the place that the caller's pool connects to; nothing runs yet.

    It deletes what ``retention`` lets go, unless that is None.
    """
    bells = _Bells(jobs=basis.bell)
    channels = {JOBS_CHANNEL: bells.jobs, OVERDUE_CHANNEL: bells.overdue, SCHEDULES_CHANNEL: bells.schedules}
    lines = await open_lines(basis.pool, basis.config, basis.addresses, channels)
    wakes, lease = bells.wakes(), Lease(basis.config.lease_seconds)
    work = wire_work(
        basis,
        lines,
        lease,
        wakes,
        make_performer=partial(Performer, environment=Environment(os.environ), payloads=basis.payloads),
        on_release=lambda: work.claims.loop.slot_released(),  # noqa: PLW0108  each needs the other
        on_look=lambda ahead: heard(ahead),  # noqa: PLW0108
    )
    own_worker = _wire_own_worker(basis, work, lease)
    suspicion = Suspicion(WorkerStore(lines.database), own_lease=lease, sweep_in=work.rescuer.sweep_in)
    heartbeat = _wire_heartbeat(basis, lines, work, lease, card, new_worker_id=new_worker_id, on_stall=on_stall)
    skew = SkewWatch(work.runs.clock)
    heard = partial(_heard, basis.registry, own_worker, work, suspicion, heartbeat, bells.overdue, skew)
    vacuumer = None if retention is None else _wire_vacuumer(basis, lines, retention)
    lifecycle = Lifecycle(_services(lines, work, wakes, own_worker, suspicion, heartbeat, vacuumer), basis.config)

    async def close() -> None:
        basis.bell.unsubscribe(wakes.claim)  # it outlives this worker
        await work.close()

    return EngineParts(
        lease=lease,
        slots=work.runs.slots,
        rescuer=work.rescuer,
        heartbeat=heartbeat,
        schedules=work.schedules,
        lifecycle=lifecycle,
        executor=work.runs.executor,
        own_worker=own_worker,
        vitals=_wire_vitals(basis, work, lease, lifecycle),
        close=close,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bells:
    """What rings when there is something to look for; ``jobs`` is the scheduler's, the others are this worker's."""

    jobs: Bell
    overdue: Bell = field(default_factory=Bell)
    schedules: Bell = field(default_factory=Bell)

    def wakes(self) -> Wakes:
        """Subscribe the loops; what is overdue is there to be claimed as well."""
        claim = self.overdue.subscribe(self.jobs.subscribe())
        return Wakes(claim=claim, overdue=self.overdue.subscribe(), tick=self.schedules.subscribe())


def _heard(
    registry: Registry,
    own_worker: OwnWorker,
    work: WorkParts,
    suspicion: Suspicion,
    heartbeat: Heartbeat,
    overdue: Bell,
    skew: SkewWatch,
    ahead: Ahead,
) -> None:
    """Tell whom it concerns what a look at the queue has shown."""
    own_worker.observe(ahead)
    skew.look()
    work.ticker.expect(ahead.tick_in)
    if registry.restrict(ahead.settings.allowed_tasks):
        overdue.ring()  # this look was for other tasks
        heartbeat.beat_soon()  # which tells the others what may be claimed here
    if ahead.missing:
        suspicion.wake()


def _wire_own_worker(basis: WorkerBasis, work: WorkParts, lease: Lease) -> OwnWorker:
    return OwnWorker(
        work.claims.claiming,
        work.runs.starts,
        work.runs.slots,
        quarantine=work.claims.quarantine,
        lease=lease,
        ghosts=work.claims.ghosts,
        clock=work.runs.clock,
        config=basis.config,
        on_idle=work.runs.completions.hurry,
    )


def _wire_heartbeat(
    basis: WorkerBasis,
    lines: Lines,
    work: WorkParts,
    lease: Lease,
    card: WorkerCard,
    *,
    new_worker_id: Callable[[], str],
    on_stall: Callable[[MainLoopStalled], None],
) -> Heartbeat:
    return Heartbeat(
        lines.pool,
        card,
        basis.registry.claimable,
        lease=lease,
        slots=work.runs.slots,
        known_tokens=lambda: work.runs.slots.tokens() | work.runs.completions.tokens(),
        finished_tokens=work.runs.completions.tokens,
        flush=work.runs.completions.wake,
        ghosts=work.claims.ghosts,
        config=basis.config,
        new_worker_id=new_worker_id,
        on_stall=on_stall,
    )


def _wire_vacuumer(basis: WorkerBasis, lines: Lines, retention: VacuumConfig) -> Vacuumer:
    return Vacuumer(VacuumStore(lines.database), tenant=basis.config.tenant, config=retention)


def _services(
    lines: Lines,
    work: WorkParts,
    wakes: Wakes,
    own_worker: OwnWorker,
    suspicion: Suspicion,
    heartbeat: Heartbeat,
    vacuumer: Vacuumer | None,
) -> Services:
    """What is to be run, and what ends all of its sleeps."""
    taking: dict[str, Service] = {
        "starts": work.runs.starts.run,
        "claim loop": work.claims.loop.run,
        "second claim": work.claims.loop.run_beside,
        "own submissions": own_worker.run,
        "ticker": work.ticker.run,
        "rescuer": work.rescuer.run,
        "suspicion": suspicion.run,
        "wakeups": lines.wakeups.run,
    }
    wake_all = [
        *(wakes.claim.set, work.claims.loop.wake_beside, wakes.tick.set),
        *(work.rescuer.wake, suspicion.wake, work.runs.completions.wake),
    ]
    if vacuumer is not None:
        taking["vacuumer"] = vacuumer.run
        wake_all.append(vacuumer.wake)
    return Services(
        taking=taking,
        completions=work.runs.completions,
        heartbeat=heartbeat,
        slots=work.runs.slots,
        wake=partial(_call_all, wake_all),
    )


def _wire_vitals(basis: WorkerBasis, work: WorkParts, lease: Lease, lifecycle: Lifecycle) -> Callable[[], Vitals]:
    return partial(
        look,
        basis.config,
        lease=lease,
        slots=work.runs.slots,
        lifecycle=lifecycle,
        executor=work.runs.executor,
        completions=work.runs.completions,
        ticker=work.ticker,
        rescuer=work.rescuer,
        clock=work.runs.clock,
    )


def _call_all(functions: Sequence[Callable[[], None]]) -> None:
    for function in functions:
        function()
