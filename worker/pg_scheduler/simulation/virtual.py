"""A fleet on a virtual clock.

Invariants: time goes from event to event, and after those of one instant comes what is claimed: a run as long as its
period does not overlap. Ticks are planned by the engine's own decisions, a day at a time and not a poll at a time.
Nobody can tell: whatever changes a schedule takes back what is ahead of it, and nothing is planned further than a poll
into an outage.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, assert_never

from pg_scheduler._domain.schedules import changed, declared, is_changed, suspension
from pg_scheduler._domain.ticking import plan_ticks
from pg_scheduler.simulation.events import BACK, DUE, HAPPEN, OF_WORKERS, PLAN, Events
from pg_scheduler.simulation.inputs import Edit, Outage, Resume, Suspend
from pg_scheduler.simulation.lines import OneOff, ScheduleLine
from pg_scheduler.simulation.runs import Runs
from pg_scheduler.simulation.trace import Range, Starts, Trace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from datetime import datetime

    from pg_scheduler._domain.ledger import Passed
    from pg_scheduler._domain.schedules import ScheduleDefinition
    from pg_scheduler.simulation.inputs import Happening, Scene
    from pg_scheduler.simulation.lines import Line
    from pg_scheduler.simulation.trace import Run

STRIDE = timedelta(days=1)


class VirtualFleet:
    """Plays one scene to its end."""

    def __init__(self, scene: Scene, tell: Callable[[Run], None] | None) -> None:
        self._scene = scene
        self._poll = timedelta(seconds=scene.fleet.poll_seconds)
        self._schedules = {
            each.name: ScheduleLine(each, number, scene.begins_at) for number, each in enumerate(scene.schedules, 1)
        }
        self._one_offs = [
            OneOff(each, number)
            for number, each in enumerate(scene.jobs, len(scene.schedules) + 1)
            if scene.begins_at <= each.run_at <= scene.ends_at
        ]
        self._outages = sorted((each for each in scene.happenings if isinstance(each, Outage)), key=_begin)
        self._ranges: list[Range] = []
        self._events = Events()
        self._runs = Runs(self._events, slots=scene.fleet.all_slots, may_halt=_may_halt(scene), tell=tell)
        self._back_at = self._out_since = self._served_since = scene.begins_at

    def play(self) -> Trace:
        """From the first instant to the last."""
        self._set_the_scene()
        ends_at = self._scene.ends_at
        while (now := self._events.next_at) is not None and now <= ends_at:
            for order, action, subject, number in self._events.take(now):
                if now < self._back_at and order in OF_WORKERS:
                    self._events.at(self._back_at, order, action, subject, number)
                else:
                    action(now, subject, number)
            if now >= self._back_at:
                self._runs.claim(now, self._served_since)
        self._close(ends_at)
        return self._trace()

    def _set_the_scene(self) -> None:
        for happening in self._scene.happenings:
            at = happening.begins_at if isinstance(happening, Outage) else happening.at
            self._events.at(max(at, self._scene.begins_at), HAPPEN, self._happens, happening)
        for line in self._schedules.values():
            self._plan_at(self._scene.begins_at, line)
        for one_off in self._one_offs:
            self._events.at(one_off.run_at, DUE, self._asks_once, one_off)

    def _happens(self, now: datetime, happening: Happening, _: int) -> None:
        match happening:
            case Outage():
                self._out_since = now if now >= self._back_at else self._out_since
                self._back_at = max(self._back_at, happening.ends_at)
                self._events.at(happening.ends_at, BACK, self._is_back, happening)
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
        self._events.at(at, PLAN, self._plan, line, line.plan)

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
            self._events.at(due_at, DUE, self._fall_due, line)

    def _fall_due(self, now: datetime, line: ScheduleLine, _: int) -> None:
        if now != line.due_at:  # what was expected has changed since
            return
        line.due_at = None
        while line.ahead and line.ahead[-1][0].due_at <= now:
            self._runs.ask(line.next_job())
        self._expect_due(now, line)

    def _asks_once(self, _: datetime, one_off: OneOff, __: int) -> None:
        self._runs.ask(one_off.job())

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
                self._runs.tell_of(job, "open", None)

    @property
    def _lines(self) -> Sequence[Line]:
        return [*self._schedules.values(), *self._one_offs]

    def _trace(self) -> Trace:
        starts = Starts()
        for line in self._lines:
            starts.add(line.counts.starts)
        return Trace(
            begins_at=self._scene.begins_at,
            ends_at=self._scene.ends_at,
            runs=(),
            ranges=sorted(self._ranges, key=lambda each: (each.first_at, each.schedule)),
            schedules={line.name: line.counts.summary(line.planned) for line in self._lines},
            lateness=starts.lateness(),
            peak=self._runs.peak,
        )


def _begin(outage: Outage) -> datetime:
    return outage.begins_at


def _may_halt(scene: Scene) -> bool:
    return any(each.policy.suspend_after_failures for _, each in scene.definitions())
