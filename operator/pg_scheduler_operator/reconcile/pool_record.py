"""What a pool learns of its workers, and what follows from it: which tasks it can run, and how long a worker takes to
start.

Invariant: what is learned is bounded, and nothing new means the same record: it is written only when it says
something.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from math import ceil
from typing import TYPE_CHECKING, Final

from pg_scheduler_operator.resources import LookaheadMode

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from datetime import datetime

    from pg_scheduler.demand import Demand, PoolRecord, WorkerLoad
    from pg_scheduler_operator.resources import Lookahead, Pod

NAMES_MAX: Final = 500
STRANGERS_MAX: Final = 100
STARTS_MAX: Final = 20
STRANGER_FOR: Final = timedelta(minutes=10)
"""For how long what nobody runs is asked for: a mistyped task will never be known."""

STRANGER_KEPT: Final = timedelta(days=1)
"""For how long it is remembered, so that what is mistyped in a schedule is not asked for at each tick."""

UNMEASURED_SECONDS: Final = 30.0
"""How long a worker takes to start of which none was measured."""

TURNS_SECONDS: Final = 4.0
"""What the operator itself adds to that: it looks every two seconds, and a pod is made in a moment."""

_ABSURD_SECONDS: Final = 600.0
"""Beyond this it was no start: a container that was restarted later, or two clocks that disagree."""


def learned(record: PoolRecord, demand: Demand, pods: Sequence[Pod]) -> PoolRecord:
    """The record with what this look shows of the pool's own workers."""
    own = own_workers(demand, {pod.uid for pod in pods})
    return replace(
        record,
        queues=_with(record.queues, {queue for worker in own for queue in worker.queues}),
        tasks=_with(record.tasks, {task for worker in own for task in worker.tasks}),
        start_seconds=_start_seconds(record, pods, own),
    )


def asked(record: PoolRecord, strangers: Collection[str], now: datetime) -> PoolRecord:
    """The record with what is asked for and no worker runs. It is not forgotten sooner than others are asked for."""
    since = {each: at for each, at in record.strangers.items() if each in strangers or now - at < STRANGER_KEPT}
    new = sorted(set(strangers).difference(since))[: STRANGERS_MAX - len(since)]
    return replace(record, strangers=since | dict.fromkeys(new, now))


def wants_strangers(record: PoolRecord, strangers: Collection[str], now: datetime) -> bool:
    """Whether one of these is new enough that a worker may be started only to see whether it runs it."""
    return any(each in record.strangers and now - record.strangers[each] < STRANGER_FOR for each in strangers)


def runs(record: PoolRecord, demand: Demand) -> tuple[set[str], set[str]]:
    """Queues and tasks of the pool's workers. Those of a worker that does not know its pod may be the pool's."""
    without_pod = [each for each in demand.workers if each.pod_uid is None]
    queues = {*record.queues, *(queue for each in without_pod for queue in each.queues)}
    tasks = {*record.tasks, *(task for each in without_pod for task in each.tasks)}
    return queues, tasks


def lead_seconds(record: PoolRecord, lookahead: Lookahead) -> float:
    """How far ahead load counts: as long as 19 of 20 workers took to start, and the operator's own turns."""
    if lookahead.mode is LookaheadMode.OFF:
        return 0.0
    measured = sorted(record.start_seconds.values()) or [UNMEASURED_SECONDS]
    p95 = measured[ceil(len(measured) * 0.95) - 1]
    return min(p95 + TURNS_SECONDS, float(lookahead.max_seconds))


def own_workers(demand: Demand, pod_uids: Collection[str]) -> list[WorkerLoad]:
    """The living workers of these pods."""
    return [each for each in demand.workers if each.lives and each.pod_uid in pod_uids]


def _with(known: Sequence[str], seen: Collection[str]) -> Sequence[str]:
    new = sorted(set(seen).difference(known))
    return [*known, *new][-NAMES_MAX:] if new else known


def _start_seconds(record: PoolRecord, pods: Sequence[Pod], own: Sequence[WorkerLoad]) -> Mapping[str, float]:
    found = dict(record.start_seconds)
    for pod in sorted(pods, key=lambda pod: pod.created_at):
        begun = [worker.started_at for worker in own if worker.pod_uid == pod.uid]
        seconds = (min(begun) - pod.created_at).total_seconds() if begun else _ABSURD_SECONDS
        if pod.uid not in found and seconds < _ABSURD_SECONDS:
            found[pod.uid] = round(max(0.0, seconds), 1)
    return dict([*found.items()][-STARTS_MAX:])
