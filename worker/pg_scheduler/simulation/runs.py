"""The jobs of a simulation that are due and those that run, on the slots of its fleet.

Invariant: what the claim decides of a job is the engine's own decision, by the key of its schedule.
"""

from __future__ import annotations

from datetime import timedelta
from heapq import heapify, heappop, heappush
from itertools import count
from typing import TYPE_CHECKING, assert_never

from pg_scheduler._domain import overlap
from pg_scheduler._domain.overlap import Verdict
from pg_scheduler._domain.retry import delay_seconds, policy_of
from pg_scheduler.errors import SimulationTooLarge
from pg_scheduler.simulation.events import DUE, END
from pg_scheduler.simulation.lines import ScheduleLine
from pg_scheduler.simulation.trace import Peak, Run

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from pg_scheduler.simulation.events import Events
    from pg_scheduler.simulation.lines import Job, Line
    from pg_scheduler.simulation.trace import Outcome

STARTS_MAX = 10_000_000
"""Of ticks there are fewer: beyond it jobs that fail are tried again and again."""


class Runs:
    """All of one scene; without a number of slots there is one for each."""

    def __init__(
        self, events: Events, *, slots: int | None, may_halt: bool, tell: Callable[[Run], None] | None
    ) -> None:
        self._events = events
        self._slots = slots
        self._may_halt = may_halt
        self._tell = tell
        self._places = count()
        self._due: list[tuple[int, datetime, int, datetime, int, Job]] = []
        self._running = self._wanting = self._started = 0
        self._most_running = 0
        self._peak: tuple[int, datetime | None] = (0, None)

    @property
    def peak(self) -> Peak:
        """When the most slots were wanted, and how many were ever in use."""
        wanted, at = self._peak
        return Peak(running=self._most_running, wanted=wanted, at=at)

    def ask(self, job: Job) -> None:
        """It is due: for the first time, again after a failure, or as its turn has come."""
        line = job.line
        line.ask(job)
        self._recount(line)
        heappush(self._due, (job.priority, job.asks_at, line.number, job.planned_at, next(self._places), job))

    def claim(self, now: datetime, served_since: datetime) -> None:
        """Whatever is due starts, by priority, time, schedule and tick, as far as there are slots."""
        if not self._due:
            return
        while self._due and (self._slots is None or self._running < self._slots):
            job = heappop(self._due)[-1]
            job.line.hear(job)
            self._recount(job.line)
            if job.grace is not None and job.is_late(served_since):
                self._end(now, job, "missed")
            elif job.attempt and job.line.replacements_due:  # one that takes its place is due as well
                job.line.retrying.remove(job)
                self._end(now, job, "cancelled")
            elif job.attempt or job.overlap == "allow":
                self._start(now, job)
            else:
                self._judge(now, job, job.line)
        self._most_running = max(self._most_running, self._running)
        if self._running + self._wanting > self._peak[0]:
            self._peak = (self._running + self._wanting, now)

    def _recount(self, line: Line) -> None:
        """How many slots are wanted beside those in use, now that this line may want others than before."""
        if self._slots is not None:
            wants = line.wants
            self._wanting += wants - line.wanted
            line.wanted = wants

    def _judge(self, now: datetime, job: Job, line: Line) -> None:
        verdict = overlap.verdict(
            job.overlap,
            running=line.running is not None,
            retrying=bool(line.retrying),
            waiting=bool(line.waiting),
            newer_due=line.replacements_due > 0,
        )
        match verdict:
            case Verdict.START:
                self._start(now, job)
            case Verdict.WAIT:
                line.wait(job)
            case Verdict.SKIP:
                self._end(now, job, "skipped_overlap")
            case Verdict.GIVE_WAY:
                self._end(now, job, "cancelled")
            case Verdict.REPLACE:
                self._make_room(now, line)
                line.wait(job)
                self._promote(line)
            case _:
                assert_never(verdict)

    def _make_room(self, now: datetime, line: Line) -> None:
        replaced = [job for job in line.waiting if job.overlap == "replace"]
        line.waiting = [job for job in line.waiting if job.overlap != "replace"]
        if line.retrying:
            for job in (asks[-1] for asks in self._due if asks[-1] in line.retrying):
                line.hear(job)
            self._due = [asks for asks in self._due if asks[-1] not in line.retrying]
            heapify(self._due)
        for job in (*replaced, *line.retrying):
            self._end(now, job, "cancelled")
        line.retrying.clear()
        if line.running is not None:
            self._running -= 1
            self._end(now, line.running, "cancelled")
            line.running = None
        self._recount(line)

    def _promote(self, line: Line) -> None:
        if line.waiting and (job := line.next_in_turn()):
            self.ask(job)

    def _start(self, now: datetime, job: Job) -> None:
        line = job.line
        self._running += 1
        self._started += 1
        if self._started > STARTS_MAX:
            raise SimulationTooLarge(
                f"more than {STARTS_MAX:,} starts", limit=STARTS_MAX, fix="simulate a shorter time, or fewer retries"
            )
        if job.overlap != "allow":
            line.running = job
            self._recount(line)
            if job.attempt:
                line.retrying.remove(job)
        job.attempt += 1
        if job.started_at is None:
            job.started_at = now
            line.counts.starts.note(job.due_at, now)
        self._events.at(now + line.takes(job.planned_at), END, self._attempt_ends, job, job.attempt)

    def _attempt_ends(self, now: datetime, job: Job, attempt: int) -> None:
        line = job.line
        if job not in line.open:  # it was replaced
            return
        self._running -= 1
        if job.overlap != "allow":
            line.running = None
            self._recount(line)
        failed = line.fails(job)
        if failed and attempt <= job.max_retries:
            self._try_again(now, job)
        else:
            self._end(now, job, "ran", failed=failed)
        self._promote(line)

    def _try_again(self, now: datetime, job: Job) -> None:
        if job.overlap != "allow":
            job.line.retrying.append(job)
        seconds = delay_seconds(policy_of(job.retry_policy, None), job.attempt - 1, chance=0.5)
        job.asks_at = now + timedelta(seconds=seconds)
        self._events.at(job.asks_at, DUE, self._asks_again, job)

    def _asks_again(self, _: datetime, job: Job, __: int) -> None:
        if job in job.line.open:  # or else it was replaced
            self.ask(job)

    def _end(self, now: datetime, job: Job, outcome: Outcome, *, failed: bool = False) -> None:
        line = job.line
        del line.open[job]
        line.counts.outcomes[outcome] += 1
        if self._tell is not None:
            self.tell_of(job, outcome, now, failed=failed)
        if self._may_halt and outcome == "ran" and isinstance(line, ScheduleLine):
            line.note_result(job, failed=failed)
            if failed and line.keeps_failing:
                line.halt(now)

    def tell_of(self, job: Job, outcome: Outcome, ended_at: datetime | None, *, failed: bool = False) -> None:
        """Tell whoever listens what has become of a job."""
        if self._tell is not None:
            self._tell(
                Run(
                    schedule=job.line.name,
                    planned_at=job.planned_at,
                    due_at=job.due_at,
                    started_at=job.started_at,
                    ended_at=ended_at,
                    outcome=outcome,
                    failed=failed,
                    attempts=job.attempt,
                )
            )
