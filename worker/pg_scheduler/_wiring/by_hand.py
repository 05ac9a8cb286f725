"""A worker that somebody drives: ``testing`` does."""

import asyncio
import os
from dataclasses import replace
from functools import partial

from pg_scheduler._engine.agenda import Agenda
from pg_scheduler._engine.by_hand import HandDriven, Runs, Witness
from pg_scheduler._engine.environment import Environment
from pg_scheduler._engine.lease import Lease
from pg_scheduler._engine.performing import TimeLimit
from pg_scheduler._store.workers import WorkerCard
from pg_scheduler._wiring.basis import WorkerBasis
from pg_scheduler._wiring.lines import open_quiet_lines
from pg_scheduler._wiring.work import Wakes, wire_work


async def wire_by_hand(basis: WorkerBasis, card: WorkerCard, *, agenda: Agenda, time_limit: TimeLimit) -> HandDriven:
    """A worker of which nothing runs by itself. It looks at every instant that matters, and needs nothing before."""
    basis = replace(basis, config=replace(basis.config, poll_seconds=0.0, prefetch_seconds=0.0))
    lines = await open_quiet_lines(basis.pool, basis.config, basis.addresses)
    lease_seconds = basis.config.lease_seconds
    lease = Lease(lease_seconds, clock=lambda: 0.0)  # held by construction: renewed before the clock is moved
    runs = Runs()
    work = wire_work(
        basis,
        lines,
        lease,
        Wakes(claim=asyncio.Event(), overdue=asyncio.Event(), tick=asyncio.Event()),
        make_performer=partial(
            Witness,
            environment=Environment(os.environ),
            payloads=basis.payloads,
            runs=runs,
            agenda=agenda,
            time_limit=time_limit,
        ),
        on_release=agenda.stirred.set,
        on_look=_ignore,
    )
    return HandDriven(
        lines.database,
        card,
        basis.registry,
        agenda=agenda,
        runs=runs,
        lease=lease,
        slots=work.runs.slots,
        claim_loop=work.claims.loop,
        ticker=work.ticker,
        completions=work.runs.completions,
        rescuer=work.rescuer,
        jobs=lines.jobs,
        schedules=work.schedules,
        periodic=basis.submitting.periodic,
        close=work.close,
    )


def _ignore(_: object) -> None:
    """Nobody asks."""
