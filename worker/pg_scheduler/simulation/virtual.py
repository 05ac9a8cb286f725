"""A fleet on a virtual clock.

Invariants: time goes from event to event, and of those at one instant ends of runs come first, then what is planned,
what happens and what falls due, and at last what is claimed: a run as long as its period does not overlap. Ticks are
planned by the engine's own decisions, a day at a time and not a poll at a time. Nobody can tell: whatever changes a
schedule takes back what is ahead of it, and nothing is planned further than a poll into an outage.
"""

from __future__ import annotations

from datetime import timedelta
from heapq import heapify, heappop, heappush
from itertools import count
from typing import TYPE_CHECKING, Any, assert_never

from pg_scheduler._domain import overlap
from pg_scheduler._domain.overlap import Verdict
from pg_scheduler._domain.retry import delay_seconds, policy_of
from pg_scheduler._domain.schedules import changed, declared, is_changed, suspension
from pg_scheduler._domain.ticking import plan_ticks
from pg_scheduler.errors import SimulationTooLarge
from pg_scheduler.simulation.inputs import Edit, Outage, Resume, Suspend
from pg_scheduler.simulation.lines import Line, OneOff, ScheduleLine
from pg_scheduler.simulation.trace import Peak, Range, Run, Starts, Trace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from datetime import datetime

    from pg_scheduler._domain.ledger import Passed
    from pg_scheduler._domain.schedules import ScheduleDefinition
    from pg_scheduler.simulation.inputs import Happening, Scene
    from pg_scheduler.simulation.lines import Job
    from pg_scheduler.simulation.trace import Outcome

    Action = Callable[[datetime, Any, int], None]
    """What an event does: at an instant, to something, with a number."""

STRIDE = timedelta(days=1)
STARTS_MAX = 10_000_000
"""Of ticks there are fewer: beyond it jobs that fail are tried again and again."""
_END, _BACK, _PLAN, _HAPPEN, _DUE = range(5)
"""The order of events at one instant."""
_OF_WORKERS = frozenset({_END, _PLAN})
"""Those that wait until an outage is over."""


class VirtualFleet:
    """Plays one scene to its end."""

    def __init__(self, scene: Scene, tell: Callable[[Run], None] | None) -> None:
        self._scene = scene
        self._tell = tell
        self._poll = timedelta(seconds=scene.fleet.poll_seconds)
        self._slots = scene.fleet.all_slots
        self._may_halt = any(each.policy.suspend_after_failures for _, each in scene.definitions())
        self._schedules = {
            each.name: ScheduleLine(each, number, scene.begins_at) for number, each in enumerate(scene.schedules, 1)
        }
        self._one_offs = [
            OneOff(each, number)
            for number, each in enumerate(scene.jobs, len(scene.schedules) + 1)
            if scene.begins_at <= each.run_at <= scene.ends_at
        ]
        self._outages = sorted((each for each in scene.happenings if isinstance(each, Outage)), key=_begin)
        self._numbers = count()
        self._events: list[tuple[datetime, int, int, Action, Any, int]] = []
        self._due: list[tuple[int, datetime, int, int, Job]] = []
        self._ranges: list[Range] = []
        self._running = self._wanting = self._started = 0
        self._most_running = 0
        self._peak: tuple[int, datetime | None] = (0, None)
        self._back_at = self._out_since = self._served_since = scene.begins_at

    def play(self) -> Trace:
        """From the first instant to the last."""
        self._set_the_scene()
        events, ends_at = self._events, self._scene.ends_at
        while events and events[0][0] <= ends_at:
            now = events[0][0]
            while events and events[0][0] == now:
                _, order, _, action, subject, number = heappop(events)
                if now < self._back_at and order in _OF_WORKERS:
                    self._at(self._back_at, order, action, subject, number)
                else:
                    action(now, subject, number)
            if self._due and now >= self._back_at:
                self._claim(now)
        self._close(ends_at)
        return self._trace()

    # Events

    def _set_the_scene(self) -> None:
        for happening in self._scene.happenings:
            at = happening.begins_at if isinstance(happening, Outage) else happening.at
            self._at(max(at, self._scene.begins_at), _HAPPEN, self._happens, happening)
        for line in self._schedules.values():
            self._plan_at(self._scene.begins_at, line)
        for one_off in self._one_offs:
            self._at(one_off.run_at, _DUE, self._asks_once, one_off)

    def _at(self, at: datetime, order: int, action: Action, subject: Any, number: int = 0) -> None:
        heappush(self._events, (at, order, next(self._numbers), action, subject, number))

    def _happens(self, now: datetime, happening: Happening, _: int) -> None:
        match happening:
            case Outage():
                self._out_since = now if now >= self._back_at else self._out_since
                self._back_at = max(self._back_at, happening.ends_at)
                self._at(happening.ends_at, _BACK, self._is_back, happening)
            case Suspend():
                line = self._schedules[happening.schedule]
                self._change(now, line, suspension(line.row, suspended=True, reason=happening.reason))
            case Resume():
                line = self._schedules[happening.schedule]
                self._change(now, line, suspension(line.row, suspended=False), resumes=True)
            case Edit():
                line = self._schedules[happening.schedule]
                self._change(now, line, declared(line.row, happening.definition))
            case _:
                assert_never(happening)

    def _is_back(self, now: datetime, _: Outage, __: int) -> None:
        if now >= self._back_at and now - self._out_since >= timedelta(seconds=self._scene.fleet.lease_seconds):
            self._served_since = now

    # Planning

    def _change(
        self, now: datetime, line: ScheduleLine, definition: ScheduleDefinition, *, resumes: bool = False
    ) -> None:
        if is_changed(line.row, definition, resumes=resumes):
            line.take_back(now)
            change = changed(line.row, definition, now)
            line.follow(definition, change)
            self._note(line, change.passed)
            self._plan_at(now, line)

    def _plan_at(self, at: datetime, line: ScheduleLine) -> None:
        line.plan += 1
        self._at(at, _PLAN, self._plan, line, line.plan)

    def _plan(self, now: datetime, line: ScheduleLine, number: int) -> None:
        if number != line.plan:
            return
        if line.keeps_failing:
            line.halt(now)
        if not line.row.is_ticking or line.row.next_tick_at is None:
            return
        plan = plan_ticks(line.row, now, self._stride_from(now) + self._poll)
        line.carry_out(plan)
        self._note(line, plan.passed)
        self._expect_due(now, line)
        if plan.next_at is not None:
            self._plan_at(max(now, plan.next_at - self._poll), line)

    def _stride_from(self, now: datetime) -> timedelta:
        to_outage = (outage.begins_at - now for outage in self._outages if outage.begins_at >= now)
        return min([STRIDE, *to_outage])

    def _note(self, line: ScheduleLine, passed: Iterable[Passed]) -> None:
        for each in passed:
            line.counts.outcomes[each.outcome] += each.ticks
            self._ranges.append(Range.of(line.name, each))

    def _expect_due(self, now: datetime, line: ScheduleLine) -> None:
        if line.ahead and line.due_at != (due_at := max(now, line.ahead[-1][0].due_at)):
            line.due_at = due_at
            self._at(due_at, _DUE, self._fall_due, line)

    def _fall_due(self, now: datetime, line: ScheduleLine, _: int) -> None:
        if now != line.due_at:  # what was expected has changed since
            return
        line.due_at = None
        while line.ahead and line.ahead[-1][0].due_at <= now:
            self._ask(line.next_job())
        self._expect_due(now, line)

    # Runs

    def _ask(self, job: Job) -> None:
        """It is due: for the first time, again after a failure, or as its turn has come."""
        line = job.line
        line.ask(job)
        self._recount(line)
        heappush(self._due, (job.priority, job.asks_at, line.number, next(self._numbers), job))

    def _asks_once(self, _: datetime, one_off: OneOff, __: int) -> None:
        self._ask(one_off.job())

    def _claim(self, now: datetime) -> None:
        """Whatever is due starts, by priority and time, as far as there are slots."""
        while self._due and (self._slots is None or self._running < self._slots):
            job = heappop(self._due)[-1]
            job.line.hear(job)
            self._recount(job.line)
            if job.grace is not None and job.is_late(self._served_since):
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
            self._ask(job)

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
        self._at(now + line.takes(job.planned_at), _END, self._attempt_ends, job, job.attempt)

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
        self._at(job.asks_at, _DUE, self._asks_again, job)

    def _asks_again(self, _: datetime, job: Job, __: int) -> None:
        if job in job.line.open:  # or else it was replaced
            self._ask(job)

    def _end(self, now: datetime, job: Job, outcome: Outcome, *, failed: bool = False) -> None:
        line = job.line
        del line.open[job]
        line.counts.outcomes[outcome] += 1
        if self._tell is not None:
            self._tell_of(job, outcome, now, failed=failed)
        if self._may_halt and outcome == "ran" and isinstance(line, ScheduleLine):
            line.note_result(job, failed=failed)
            if failed and line.keeps_failing:
                line.halt(now)

    # What is told

    def _tell_of(self, job: Job, outcome: Outcome, ended_at: datetime | None, *, failed: bool = False) -> None:
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

    def _close(self, now: datetime) -> None:
        """What is ahead was never planned; what a suspension has left out is told as if it were lifted now."""
        for line in self._schedules.values():
            line.take_back(now)
            for job in line.due_later():
                line.open[job] = None
            if not line.row.is_ticking:
                change = changed(line.row, suspension(line.row, suspended=False), now)
                line.follow(line.row.definition, change)
                self._note(line, change.passed)
        for each in self._lines:
            each.counts.outcomes["open"] = len(each.open)
            for job in each.open:
                self._tell_of(job, "open", None)

    @property
    def _lines(self) -> Sequence[Line]:
        return [*self._schedules.values(), *self._one_offs]

    def _trace(self) -> Trace:
        starts = Starts()
        for line in self._lines:
            starts.add(line.counts.starts)
        wanted, at = self._peak
        return Trace(
            begins_at=self._scene.begins_at,
            ends_at=self._scene.ends_at,
            runs=(),
            ranges=sorted(self._ranges, key=lambda each: (each.first_at, each.schedule)),
            schedules={line.name: line.counts.summary(line.planned) for line in self._lines},
            lateness=starts.lateness(),
            peak=Peak(running=self._most_running, wanted=wanted, at=at),
        )


def _begin(outage: Outage) -> datetime:
    return outage.begins_at
