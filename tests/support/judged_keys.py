"""Who holds a slot of which concurrency key, reckoned from what happened to the jobs alone, and the judge of it.

Invariants (design page 2 §2.8): a claim gives out no slot above its key's limit; a slot is held from the claim until
the job has left ``running`` and no coroutine of it is being stopped, and the engine's table says so too; no job waits
while a slot of its key is free and nothing that could take it is due.
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


@dataclass(slots=True)
class Keys:
    """The limits that were set, and the holders: job and key."""

    limits: dict[str, int] = field(default_factory=dict)
    holders: dict[str, str] = field(default_factory=dict)

    def limit(self, key: str | None) -> int:
        return self.limits.get(key or "", 1)

    def held(self, key: str) -> int:
        return Counter(self.holders.values())[key]

    def follow(self, change: Change, *, promoted: bool) -> None:
        """What the change of a job means for its slot and for its turn."""
        key = change.concurrency_key
        if change.new_status is None or (
            change.new_status not in {"running", "waiting"} and change.new_stopping is None
        ):
            self.holders.pop(change.id, None)
        if key is not None and change.old_status != change.new_status:
            self._judge_turn(change, key)
        if key is not None and promoted:
            require(self.held(key) < self.limit(key), f"{change.id} is promoted although {key} is full")

    def _judge_turn(self, change: Change, key: str) -> None:
        if change.new_status == "running":
            self.holders[change.id] = key
            require(self.held(key) <= self.limit(key), f"more than {self.limit(key)} hold a slot of {key}")
        if change.new_status == "waiting":
            require(self.held(key) >= self.limit(key), f"{change.id} waits although {key} has a free slot")

    def judge_waiting(self, jobs: Mapping[str, Known], latest: datetime) -> None:
        """Nobody is stranded: for each free slot of a key with waiting jobs there is somebody to take it."""
        waiting = {job.key for job in jobs.values() if job.status == "waiting" and job.key is not None}
        for key in waiting:
            coming = sum(
                job.key == key and job.status == "pending" and job.stopping is None and job.execution_time <= latest
                for job in jobs.values()
            )
            require(self.held(key) + coming >= self.limit(key), f"jobs of {key} wait for nobody")

    def judge_table(self, rows: Iterable[tuple[str, str]]) -> None:
        """The slots are those of running jobs, and of those whose coroutine is being stopped."""
        table = dict(rows)
        require(table == self.holders, f"the slots are {table}, and held are {self.holders}")
