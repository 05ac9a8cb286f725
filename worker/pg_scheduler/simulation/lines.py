"""What a simulation remembers of each schedule, and of each job.

Invariant: a job is in ``open`` of its line from the instant at which it is due until its outcome is known.
"""

from __future__ import annotations

from bisect import insort
from dataclasses import replace
from datetime import timedelta
from operator import attrgetter
from typing import TYPE_CHECKING

from pg_scheduler._domain import overlap
from pg_scheduler._domain.policies import FAILURES_MAX
from pg_scheduler._domain.schedules import StoredSchedule, changed, first_grid, suspension
from pg_scheduler.simulation.inputs import require_seconds
from pg_scheduler.simulation.trace import Counts

if TYPE_CHECKING:
    from datetime import datetime

    from pg_scheduler._domain.policies import Overlap
    from pg_scheduler._domain.schedules import Change, ScheduleDefinition
    from pg_scheduler._domain.ticking import Plan, Tick
    from pg_scheduler.simulation.inputs import Fails, SimulatedJob, SimulatedSchedule, Takes


class Job:
    """One planned instant that has a job; ``asks_at`` is when it is due, or due again."""

    __slots__ = (
        "asks_at",
        "attempt",
        "due_at",
        "grace",
        "line",
        "max_retries",
        "overlap",
        "planned_at",
        "priority",
        "retry_policy",
        "started_at",
    )

    def __init__(
        self,
        line: Line,
        planned_at: datetime,
        due_at: datetime,
        *,
        priority: int,
        overlap: Overlap = "allow",
        deadline_seconds: int | None = None,
        max_retries: int = 0,
        retry_policy: str | None = None,
    ) -> None:
        self.line = line
        self.planned_at = planned_at
        self.due_at = self.asks_at = due_at
        self.priority = priority
        self.overlap = overlap
        self.grace = deadline_seconds
        self.max_retries = max_retries
        self.retry_policy = retry_policy
        self.attempt = 0
        self.started_at: datetime | None = None

    def is_late(self, served_since: datetime) -> bool:
        """Whether nobody was there to start it until its grace was over; ``scheduler_is_late`` and the claim say so."""
        return (
            self.grace is not None and not self.attempt and served_since > self.due_at + timedelta(seconds=self.grace)
        )


class Line:
    """Jobs that share a name, and of a schedule the key: who runs, who is to be tried again, who waits.

    ``number`` is its place in the scene: of jobs that are due at once the first one's starts first.
    """

    def __init__(self, name: str, number: int, takes: Takes, fails: Fails) -> None:
        self.name = name
        self.number = number
        self.counts = Counts()
        self.open: dict[Job, None] = {}
        self.running: Job | None = None
        self.retrying: list[Job] = []
        self.waiting: list[Job] = []
        self.replacements_due = 0
        self.wanted = 0
        self.asking = 0
        self.asking_with_key = 0
        self._takes = takes if callable(takes) else timedelta(seconds=takes)
        self._fails = fails

    @property
    def planned(self) -> int:
        """How many instants were planned."""
        return 1

    def takes(self, planned_at: datetime) -> timedelta:
        """How long the run of an instant takes."""
        if isinstance(self._takes, timedelta):
            return self._takes
        seconds = self._takes(planned_at)
        require_seconds(f"what {self.name[:63]!r} takes", seconds)
        return timedelta(seconds=seconds)

    def fails(self, job: Job) -> bool:
        """Whether the attempt that ends fails."""
        return self._fails(job.planned_at, job.attempt) if callable(self._fails) else self._fails

    def ask(self, job: Job) -> None:
        """The job is due."""
        self.open[job] = None
        self._count(job, 1)

    def hear(self, job: Job) -> None:
        """It is looked at: it asks no more."""
        self._count(job, -1)

    def _count(self, job: Job, by: int) -> None:
        if job.overlap == "allow":
            self.asking += by
        else:
            self.asking_with_key += by
            self.replacements_due += by * (job.overlap == "replace" and not job.attempt)

    @property
    def wants(self) -> int:
        """How many further slots it could use: of those with the key one, if none runs."""
        return self.asking + (self.asking_with_key > 0 and self.running is None)

    def next_in_turn(self) -> Job | None:
        """The first of those that wait, if it is due again: then it waits no more."""
        if self.running is not None:
            return None
        retrying = bool(self.retrying)
        first = next((job for job in self.waiting if overlap.has_its_turn(job.overlap, retrying=retrying)), None)
        if first is not None:
            self.waiting.remove(first)
        return first

    def wait(self, job: Job) -> None:
        """It waits for its turn."""
        insort(self.waiting, job, key=attrgetter("priority", "due_at"))


class OneOff(Line):
    """A job that runs once."""

    def __init__(self, simulated: SimulatedJob, number: int) -> None:
        super().__init__(simulated.name, number, simulated.takes_seconds, simulated.fails)
        self._simulated = simulated

    @property
    def run_at(self) -> datetime:
        """When it is due."""
        return self._simulated.run_at

    def job(self) -> Job:
        """The job."""
        return Job(
            self,
            self.run_at,
            self.run_at,
            priority=self._simulated.priority.db_value,
            deadline_seconds=self._simulated.starting_deadline_seconds,
        )


class ScheduleLine(Line):
    """A schedule: its row, and the ticks that have a job already.

    Attributes:
        row: as the engine would have stored it.
        ahead: the ticks that have a job and are not due, the last one first.
        due_at: when the next of them is expected to fall due; None while none is.
        plan: which of the plans counts; a change makes those before it void.
    """

    def __init__(self, simulated: SimulatedSchedule, number: int, begins_at: datetime) -> None:
        super().__init__(simulated.name, number, simulated.takes_seconds, simulated.fails)
        definition, grid = simulated.definition, first_grid(simulated.definition, begins_at)
        self.row = StoredSchedule(
            id=number,
            definition=definition,
            anchor_at=grid.anchor_at,
            last_tick_at=grid.last_tick_at,
            next_tick_at=grid.next_tick_at,
            ticks=0,
        )
        self.due_at: datetime | None = None
        self.plan = 0
        self.ahead: list[tuple[Tick, ScheduleDefinition]] = []
        self._results: list[tuple[datetime, bool]] = []

    @property
    def planned(self) -> int:
        """How many ticks were planned and not taken back."""
        return self.row.ticks

    def carry_out(self, plan: Plan) -> None:
        """Keep its ticks ahead, and move the high-water mark."""
        row = self.row
        self.ahead += [(tick, row.definition) for tick in plan.ticks]
        self.ahead.sort(key=lambda ahead: ahead[0].due_at, reverse=True)
        self.row = replace(
            row,
            last_tick_at=plan.last_at or row.last_tick_at,
            last_run_tick_at=plan.ticks[-1].at if plan.ticks else row.last_run_tick_at,
            next_tick_at=plan.next_at,
            runs=row.runs + len(plan.ticks),
            ticks=row.ticks + len(plan.ticks) + sum(each.ticks for each in plan.passed),
        )

    def next_job(self) -> Job:
        """That of the first of the ticks ahead, which is ahead no more."""
        return self._job(*self.ahead.pop())

    def due_later(self) -> list[Job]:
        """The jobs of the ticks ahead."""
        return [self._job(tick, definition) for tick, definition in self.ahead]

    def _job(self, tick: Tick, definition: ScheduleDefinition) -> Job:
        template, policy = definition.template, definition.policy
        return Job(
            self,
            tick.at,
            tick.due_at,
            priority=template.priority,
            overlap=policy.overlap,
            deadline_seconds=policy.starting_deadline_seconds,
            max_retries=template.max_retries,
            retry_policy=template.retry_policy,
        )

    def take_back(self, now: datetime) -> None:
        """Forget the ticks that are still to come."""
        taken = [tick for tick, _ in self.ahead if tick.at > now]
        if not taken:
            return
        self.ahead = [ahead for ahead in self.ahead if ahead[0].at <= now]
        self.row = replace(
            self.row,
            ticks=self.row.ticks - len(taken),
            runs=self.row.runs - len(taken),
            last_run_tick_at=min(taken, key=lambda tick: tick.at).previous_at,
        )

    def follow(self, definition: ScheduleDefinition, change: Change) -> None:
        """The row as a change leaves it."""
        self.row = replace(
            self.row,
            definition=definition,
            anchor_at=change.grid.anchor_at,
            last_tick_at=change.grid.last_tick_at,
            next_tick_at=change.grid.next_tick_at,
            ticks=self.row.ticks + sum(each.ticks for each in change.passed),
            halted=False,
        )

    def note_result(self, job: Job, *, failed: bool) -> None:
        """A run has ended for good."""
        insort(self._results, (job.planned_at, failed))
        del self._results[:-FAILURES_MAX]

    @property
    def keeps_failing(self) -> bool:
        """Whether its last runs since the anchor have all failed, as many as it allows."""
        allowed = self.row.definition.policy.suspend_after_failures
        if allowed is None or not self.row.is_ticking:
            return False
        last = [failed for at, failed in self._results[-allowed:] if at > self.row.anchor_at]
        return len(last) == allowed and all(last)

    def halt(self, now: datetime) -> None:
        """It ticks no more until somebody resumes or changes it."""
        self.take_back(now)
        grid = changed(self.row, suspension(self.row, suspended=True), now).grid
        self.row = replace(self.row, halted=True, last_tick_at=grid.last_tick_at, next_tick_at=None)
