"""``pgscheduler lint``: what is wrong with the schedules of manifests, or will be.

Invariant: a finding names the file, the object, what, when and what to do about it, in one line; arguments of jobs are
in none.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import click

from pg_scheduler import recurrence
from pg_scheduler.cli.output import progress
from pg_scheduler.errors import InvalidArgument
from pg_scheduler.simulation import watch
from pg_scheduler_operator.cli.parameters import TOPICS
from pg_scheduler_operator.cli.scenes import declared_in, namespaces, spec_of
from pg_scheduler_operator.cli.simulating import duration, instant
from pg_scheduler_operator.resources import Kind, PeriodicJobSpec, ScheduledJobSpec

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    from pg_scheduler.cli.output import Output
    from pg_scheduler.recurrence import Overlap
    from pg_scheduler.simulation import Run, SimulatedSchedule, Trace
    from pg_scheduler_operator.cli.parameters import Topic
    from pg_scheduler_operator.cli.scenes import Declared, Namespace, Refused, Wish
    from pg_scheduler_operator.resources import JobTemplate

_OVERLAPS: Final[Mapping[Overlap, tuple[str, str]]] = {
    "skip": ("are skipped, since the one before has not ended", "Queue, Replace or Allow"),
    "queue": ("are skipped, since one waits already", "Replace or Allow"),
    "replace": ("are replaced by the next one", "Skip, Queue or Allow"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing to look at.

    Attributes:
        object: kind, namespace and name; empty for a whole file.
        at: when it first happens; None where it is always so.
    """

    file: str
    object: str
    topic: Topic
    what: str
    at: datetime | None = None
    fix: str = ""

    def __str__(self) -> str:
        place = ":".join(filter(None, (self.file, self.object)))
        when = "" if self.at is None else f", {instant(self.at)}"
        return f"{place}: {self.topic}: {self.what}{when}{f'; {self.fix}' if self.fix else ''}"

    def as_json(self) -> dict[str, Any]:
        """The same as an object."""
        return {
            "file": self.file,
            "object": self.object,
            "topic": self.topic,
            "what": self.what,
            "at": instant(self.at),
            "fix": self.fix,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Linted:
    """How many objects were looked at, and what was found."""

    objects: int
    findings: Sequence[Finding]


def lint_files(paths: Sequence[Path], wish: Wish) -> Linted:
    """Look at what the files declare, and at what it does in the wished time.

    Raises:
        SimulationTooLarge: there are too many ticks.
    """
    objects, unreadable = declared_in(paths)
    found, refused = namespaces(objects, wish)
    findings = [_of_refusal(each) for each in (*unreadable, *refused)]
    for each in objects:
        findings += _of_arguments(each)
    for namespace in found:
        findings += [finding for schedule in namespace.scene.schedules for finding in _of_rule(namespace, schedule)]
        findings += _of_simulation(namespace, str(paths[0]))
    return Linted(
        objects=len(objects),
        findings=sorted(findings, key=lambda each: (each.file, each.object, TOPICS.index(each.topic))),
    )


def show(linted: Linted, output: Output) -> None:
    """Print the findings, and how many there are."""
    if output == "json":
        click.echo(json.dumps([each.as_json() for each in linted.findings], ensure_ascii=False, indent=2))
    else:
        for each in linted.findings:
            click.echo(str(each))
    progress(f"{_counted(len(linted.findings), 'finding')} in {_counted(linted.objects, 'object')}")


def _counted(count: int, noun: str) -> str:
    return f"{count or 'no'} {noun}{'' if count == 1 else 's'}"


def _of_refusal(refused: Refused) -> Finding:
    error = refused.error
    what = ": ".join(filter(None, (error.what, error.why)))
    key = "" if refused.key is None else str(refused.key)
    return Finding(file=refused.file, object=key, topic="invalid", what=what, fix=error.fix)


def _of_arguments(declared: Declared) -> Iterator[Finding]:
    try:
        match declared.key.kind:
            case Kind.PERIODIC_JOB:
                template: JobTemplate | None = spec_of(declared, PeriodicJobSpec).job_template
            case Kind.SCHEDULED_JOB:
                template = spec_of(declared, ScheduledJobSpec).template
            case Kind.WORKER_POOL:
                return
    except InvalidArgument:  # it is told of as refused
        return
    if template is not None and template.spec.is_inexact:
        what = "its arguments hold a number beyond 2**53 or a key true or false, which JSON and YAML may change"
        yield _finding(declared, "arguments", what, fix="write it as text")


def _of_rule(namespace: Namespace, schedule: SimulatedSchedule) -> Iterator[Finding]:
    """What can be seen without a simulation."""
    wanted, scene = schedule.definition, namespace.scene
    declared, rule = namespace.objects[schedule.name], schedule.definition.rule
    if recurrence.next_within(rule, wanted.bounds, scene.begins_at, anchor=scene.begins_at, made=0) is None:
        yield _finding(declared, "never", "it has no run any more", fix="give a later endTime, or take it away")
    for expression in rule.expressions if isinstance(rule, recurrence.Cron) else ():
        if hint := recurrence.kubernetes_hint(expression):
            yield _finding(declared, "kubernetes", hint, fix="list the days if that is what you mean")
    after, until = recurrence.within(wanted.bounds, scene.begins_at, scene.ends_at)
    for at, note in recurrence.notes_within(rule, after, until) if after < until else ():
        yield _finding(
            declared, "clocks", note, at, "take another hour, or say so by nonexistent- or ambiguousTimePolicy"
        )


class _Watched:
    """What a simulation tells of one schedule."""

    def __init__(self, schedule: SimulatedSchedule) -> None:
        self.policy = schedule.definition.policy
        self.overlaps: list[datetime] = []
        self.late: list[Run] = []

    def note(self, run: Run) -> None:
        deadline = self.policy.starting_deadline_seconds
        if run.outcome in {"skipped_overlap", "cancelled"}:
            self.overlaps.append(run.planned_at)
        if deadline is not None and run.lateness_seconds > deadline:
            self.late.append(run)


def _of_simulation(namespace: Namespace, place: str) -> Iterator[Finding]:
    watched = {each.name: _Watched(each) for each in namespace.scene.schedules}

    def tell(run: Run) -> None:
        if run.schedule in watched:
            watched[run.schedule].note(run)

    trace = watch(namespace.scene, tell)
    for name, each in watched.items():
        yield from _of_runs(namespace.objects[name], each, trace.schedules[name].ledger.planned)
    yield from _of_capacity(namespace, trace, place)


def _of_runs(declared: Declared, watched: _Watched, planned: int) -> Iterator[Finding]:
    policy = watched.policy
    if watched.overlaps:
        what, instead = _OVERLAPS[policy.overlap]
        fix = f"leave more time between ticks, or take overlapPolicy {instead}"
        share = f"{len(watched.overlaps)} of {planned} runs {what}"
        yield _finding(declared, "overlap", share, min(watched.overlaps), fix)
    if watched.late:
        longest = duration(max(run.lateness_seconds for run in watched.late))
        what = (
            f"{len(watched.late)} of {planned} runs start later than startingDeadlineSeconds"
            f" {policy.starting_deadline_seconds}, up to {longest}"
        )
        first = min(run.planned_at for run in watched.late)
        yield _finding(declared, "deadline", what, first, "add slots, or allow for a longer deadline")


def _of_capacity(namespace: Namespace, trace: Trace, place: str) -> Iterator[Finding]:
    slots, peak = namespace.scene.fleet.all_slots, trace.peak
    if slots is not None and peak.wanted > slots:
        yield Finding(
            file=place,
            object=f"namespace {namespace.name}",
            topic="capacity",
            what=f"{peak.wanted} slots are wanted and there are {slots}",
            at=peak.at,
            fix="spread the ticks, for instance by jitterSeconds, or add slots",
        )


def _finding(declared: Declared, topic: Topic, what: str, at: datetime | None = None, fix: str = "") -> Finding:
    return Finding(file=declared.file, object=str(declared.key), topic=topic, what=what, at=at, fix=fix)


def fails(findings: Iterable[Finding], topics: Iterable[Topic]) -> bool:
    """Whether one of these topics is among them; what is invalid always is."""
    return not {"invalid", *topics}.isdisjoint(each.topic for each in findings)
