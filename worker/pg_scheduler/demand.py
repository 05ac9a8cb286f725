"""What a tenant's jobs ask of its workers, and what is kept of a pool of workers.

Invariant: values only, all by the database's clock: whoever decides from them needs no other.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Waiting:
    """Jobs of one task and queue that are due in so many whole seconds; 0 means that they are."""

    queue: str
    task: str
    in_seconds: int
    jobs: int


@dataclass(frozen=True, slots=True)
class Running:
    """Jobs of one queue that rows say run, on a worker that lives or on one that does not: those are orphaned."""

    queue: str
    jobs: int
    on_living_worker: bool


@dataclass(frozen=True, slots=True)
class QueueLimit:
    """How many jobs of a queue all workers together run at a time, and how many they start; None without limit."""

    queue: str
    concurrency: int | None
    starts_per_second: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerLoad:
    """One worker process.

    Attributes:
        pod_uid: the pod that it runs in, None where it does not know.
        busy: jobs that it runs, cancelled ones that have not stopped yet among them.
        mark_seconds: for how long it still claims nothing; None when it is not marked.
        drained_seconds: for how long it has been marked.
    """

    pod_uid: str | None
    slots: int
    started_at: datetime
    lives: bool = True
    busy: int = 0
    mark_seconds: float | None = None
    drained_seconds: float | None = None
    queues: Sequence[str] = ()
    tasks: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """One look at a tenant's jobs and workers, in one snapshot.

    Attributes:
        waiting: jobs that are due or will be within the seconds asked for, and ticks that are no jobs yet. At most
            20,000 jobs of each queue and priority are counted, and 1,000 schedules.
        late_seconds: how long ago the job was due that has waited longest; 0 if none waits. Jobs of paused queues and
            jobs with a concurrency key are left out: they may have to wait.
        median_seconds: how long a task takes, of those among the newest 1,000 ends.
        paused: queues that nobody claims from.
        limits: those of queues that have some.
        has_schedules: whether any schedule has a tick to come.
        schema_version: the newest migration that was applied.
        is_schema_current: whether that is the newest of this release.
    """

    at: datetime
    waiting: Sequence[Waiting] = ()
    late_seconds: float = 0.0
    running: Sequence[Running] = ()
    workers: Sequence[WorkerLoad] = ()
    median_seconds: Mapping[str, float] = field(default_factory=dict)
    paused: Sequence[str] = ()
    limits: Sequence[QueueLimit] = ()
    has_schedules: bool = False
    schema_version: int = 0
    is_schema_current: bool = True

    @property
    def unroutable_jobs(self) -> int:
        """How many jobs are due that no living worker would take: none knows their task, or none serves their queue."""
        taken = {(queue, task) for each in self.workers if each.lives for queue in each.queues for task in each.tasks}
        return sum(
            each.jobs
            for each in self.waiting
            if each.in_seconds == 0 and each.queue not in self.paused and (each.queue, each.task) not in taken
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolRecord:
    """What is known of a pool while it has no workers.

    Attributes:
        queues: those that its workers have served, at most 500.
        tasks: those that its workers have registered, at most 500.
        strangers: what it was asked for and none of its workers runs, as queue/task, and since when.
        start_seconds: by pod uid, oldest first, how long the newest pods took to their first heartbeat.
    """

    queues: Sequence[str] = ()
    tasks: Sequence[str] = ()
    strangers: Mapping[str, datetime] = field(default_factory=dict)
    start_seconds: Mapping[str, float] = field(default_factory=dict)
