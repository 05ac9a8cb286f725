"""Who holds a slot of which concurrency key, reckoned from what happened to the jobs alone, and the judge of it.

Invariants (design page 2 §2.8): a claim gives out no slot above its key's limit; a slot is held from the claim until
the job has left ``running`` and no coroutine of it is being stopped, and the engine's table says so too; no job waits
while a slot of its key is free and nothing that could take it is due. A new job that skips or queues counts those that
will be retried as holders; of those that queue one waits. Of a job that is not due nothing is decided but its start.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from support.changes import require

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from support.changes import Change, Known

POLITE = frozenset({"skip", "queue"})


@dataclass(frozen=True, slots=True)
class Retry:
    """A job that has started and will again; ``was_promoted`` if it has waited for its turn meanwhile."""

    key: str
    was_promoted: bool


@dataclass(slots=True)
class Keys:
    """The limits that were set, and by their jobs: who holds a slot, who will start again, and who queues.

    ``unasked`` counts those that the present statement has started and that need not mind retries.
    """

    limits: dict[str, int] = field(default_factory=dict)
    holders: dict[str, str] = field(default_factory=dict)
    retrying: dict[str, Retry] = field(default_factory=dict)
    queued: dict[str, str] = field(default_factory=dict)
    unasked: Counter[str] = field(default_factory=Counter)

    def limit(self, key: str | None) -> int:
        return self.limits.get(key or "", 1)

    def held(self, key: str) -> int:
        return Counter(self.holders.values())[key]

    def opened(self, key: str) -> int:
        """Those that hold a slot, and those that will again."""
        return self.held(key) + sum(retry.key == key for retry in self.retrying.values())

    def begin_statement(self) -> None:
        """In which order a claim writes its rows says nothing of whose turn came first."""
        self.unasked.clear()

    def follow(self, change: Change, *, promoted: bool) -> None:
        """What the change of a job means for its slot and for its turn."""
        key = change.concurrency_key
        if change.new_status is None or (
            change.new_status not in {"running", "waiting"} and change.new_stopping is None
        ):
            self.holders.pop(change.id, None)
        self.retrying.pop(change.id, None)
        self.queued.pop(change.id, None)
        if key is None:
            return
        if promoted:
            self._judge_promotion(change, key)
        if change.new_status == "pending" and change.attempt > 0:
            self.retrying[change.id] = Retry(key, was_promoted=promoted)
        if change.old_status != change.new_status:
            self._judge_turn(change, key)

    def _judge_promotion(self, change: Change, key: str) -> None:
        """Of several promoted at once some may be too many: they wait again."""
        others = [retry for retry in self.retrying.values() if retry.key == key and not retry.was_promoted]
        taken = self.held(key) + (len(others) if _queues(change) else 0)
        require(taken < self.limit(key), f"{change.id} is promoted although {key} is full")

    def _judge_turn(self, change: Change, key: str) -> None:
        if change.new_status == "running":
            self.holders[change.id] = key
            require(self.held(key) <= self.limit(key), f"more than {self.limit(key)} hold a slot of {key}")
            if change.on_full in POLITE and change.attempt == 1:
                opened = self.opened(key) - self.unasked[key]
                require(opened <= self.limit(key), f"{change.id} starts beside a retry of {key}")
            else:
                self.unasked[key] += 1
        if change.new_status == "waiting":
            taken = self.opened(key) if _queues(change) else self.held(key)
            require(taken >= self.limit(key), f"{change.id} waits although {key} has a free slot")
            require(change.execution_time <= change.at, f"{change.id} waits before it is due")
            if _queues(change):
                require(key not in self.queued.values(), f"{change.id} queues behind another of {key}")
                self.queued[change.id] = key

    def judge_skips(self, changes: Iterable[Change]) -> None:
        """A claim ends what its full key has no place for, if it is due, and of what queues all but one."""
        for change in changes:
            key, is_new = change.concurrency_key, change.on_full in POLITE and change.attempt == 0
            if key is None or not is_new or change.move != ("pending", "cancelled"):
                continue
            require(self.opened(key) >= self.limit(key), f"{change.id} is skipped although {key} has a free slot")
            require(change.execution_time <= change.at, f"{change.id} is skipped before it is due")
            is_queued = key in self.queued.values()
            require(change.on_full == "skip" or is_queued, f"{change.id} is skipped although none of {key} queues")

    def judge_waiting(self, jobs: Mapping[str, Known], latest: datetime) -> None:
        """Nobody is stranded: for each free slot of a key with waiting jobs there is somebody to take it."""
        waiting = {
            (job.key, job_id in self.queued)
            for job_id, job in jobs.items()
            if job.status == "waiting" and job.key is not None
        }
        for key, queues in waiting:
            coming = sum(
                (job.stopping is None and job.execution_time <= latest) or (queues and job_id in self.retrying)
                for job_id, job in jobs.items()
                if job.key == key and job.status == "pending"
            )
            require(self.held(key) + coming >= self.limit(key), f"jobs of {key} wait for nobody")

    def judge_table(self, rows: Iterable[tuple[str, str]]) -> None:
        """The slots are those of running jobs, and of those whose coroutine is being stopped."""
        table = dict(rows)
        require(table == self.holders, f"the slots are {table}, and held are {self.holders}")


def _queues(change: Change) -> bool:
    """Whether it is a job that queues and has not started."""
    return change.on_full == "queue" and change.attempt == 0
