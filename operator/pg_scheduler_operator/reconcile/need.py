"""How many slots a pool's jobs need, now and as far ahead as a new worker would take to start.

Invariants: what is due later than the lead is no load; a queue counts at most what its limits let run; jobs of queues
or tasks that no worker of the pool has ever registered never drive it beyond one replica.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from heapq import heappop, heappush
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from pg_scheduler.demand import Demand, Waiting


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """From where a pool sees its demand.

    Attributes:
        lead_seconds: how far ahead, 0 for not at all.
        pod_uids: the pool's own pods.
        queues: those that its workers serve, now or before.
        tasks: those that its workers know, now or before.
        globs: of the tasks that they are allowed.
        shares: this pool's part of the jobs of a queue that several pools serve; all of it where nothing is said.
    """

    lead_seconds: float
    pod_uids: Collection[str]
    queues: Collection[str]
    tasks: Collection[str]
    globs: Collection[str] = ("*",)
    orphan_weight: int = 1
    shares: Mapping[str, float] = field(default_factory=dict)

    def allows(self, task: str) -> bool:
        """Whether the pool's workers may run it."""
        return any(fnmatchcase(task, glob) for glob in self.globs)

    def share_of(self, queue: str) -> float:
        """How much of the jobs of a queue falls to this pool."""
        return self.shares.get(queue, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What a pool is asked for.

    Attributes:
        slots: how many slots it needs.
        strangers: what it is asked for and none of its workers runs, as queue/task.
    """

    slots: float
    strangers: Collection[str] = ()


def need_of(demand: Demand, outlook: Outlook) -> Need:
    """The slots for what runs, is due, waits for its rescue, or will be due before a worker made now could start it."""
    waiting, strangers = _counted(demand, outlook)
    slots = _running(demand, outlook) + _orphaned(demand, outlook)
    for queue, jobs in waiting.items():
        slots += _waiting(queue, jobs, demand, outlook) * outlook.share_of(queue)
    return Need(slots=slots, strangers=strangers)


def _counted(demand: Demand, outlook: Outlook) -> tuple[Mapping[str, list[Waiting]], set[str]]:
    waiting, strangers = defaultdict(list), set()
    for each in demand.waiting:
        if each.queue in demand.paused or each.in_seconds > outlook.lead_seconds or not outlook.allows(each.task):
            continue
        if each.queue in outlook.queues and each.task in outlook.tasks:
            waiting[each.queue].append(each)
        else:
            strangers.add(f"{each.queue}/{each.task}")
    return waiting, strangers


def _running(demand: Demand, outlook: Outlook) -> float:
    """What the pool's own workers hold; of workers that do not know their pod nobody else counts the jobs."""
    return sum(each.busy for each in demand.workers if each.lives and _is_own(each.pod_uid, outlook))


def _is_own(pod_uid: str | None, outlook: Outlook) -> bool:
    return pod_uid is None or pod_uid in outlook.pod_uids


def _orphaned(demand: Demand, outlook: Outlook) -> float:
    counted = (each for each in demand.running if not each.on_living_worker and each.queue in outlook.queues)
    return sum(each.jobs * outlook.orphan_weight * outlook.share_of(each.queue) for each in counted)


def _waiting(queue: str, waiting: Iterable[Waiting], demand: Demand, outlook: Outlook) -> float:
    """Due jobs need a slot each; those to come as many as will run at once."""
    ahead = [each for each in waiting if each.in_seconds > 0]
    due = sum(each.jobs for each in waiting if each.in_seconds == 0)
    slots = due + busiest(ahead, demand.median_seconds, otherwise_seconds=outlook.lead_seconds)
    return min([slots, *_limits(queue, demand, outlook)])


def _limits(queue: str, demand: Demand, outlook: Outlook) -> Iterator[float]:
    for limit in demand.limits:
        if limit.queue == queue and limit.concurrency is not None:
            runs = sum(each.jobs for each in demand.running if each.queue == queue and each.on_living_worker)
            yield max(0, limit.concurrency - runs)
        if limit.queue == queue and limit.starts_per_second is not None:
            yield max(1.0, limit.starts_per_second * outlook.lead_seconds)


def busiest(waiting: Iterable[Waiting], median_seconds: Mapping[str, float], *, otherwise_seconds: float) -> int:
    """The most jobs that run at one moment, if each starts when it is due and takes as long as its task mostly does.

    Those of one second start together; a task that nothing is known of takes ``otherwise_seconds``.
    """
    running = most = 0
    ends: list[tuple[float, int]] = []
    for each in sorted(waiting, key=lambda each: each.in_seconds):
        while ends and ends[0][0] <= each.in_seconds:
            running -= heappop(ends)[1]
        running += each.jobs
        # at least to the end of its second: what starts in the same one does not follow it
        heappush(ends, (each.in_seconds + max(median_seconds.get(each.task, otherwise_seconds), 0.001), each.jobs))
        most = max(most, running)
    return most
