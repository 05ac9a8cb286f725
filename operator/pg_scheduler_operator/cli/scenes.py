"""Manifests as scenes to simulate: one for each namespace, which has workers of its own.

Invariant: an object that cannot be used is told of and left out; the others are simulated without it.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeVar

from pg_scheduler.errors import InvalidArgument, InvalidSchedule
from pg_scheduler.job_priority import JobPriority
from pg_scheduler.simulation import Fleet, Scene, SimulatedJob, SimulatedSchedule, definition
from pg_scheduler_operator.errors import InvalidManifest, InvalidSpec
from pg_scheduler_operator.gateway.files import manifest_files
from pg_scheduler_operator.gateway.manifests import read_manifests
from pg_scheduler_operator.resources import (
    GROUP,
    Kind,
    PeriodicJobSpec,
    ScalingMode,
    ScheduledJobSpec,
    WorkerPoolSpec,
    read,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    from pg_scheduler.errors import PgSchedulerError
    from pg_scheduler_operator.gateway.manifests import Manifest
    from pg_scheduler_operator.resources import JobTemplate, Key

DURATION: Final = f"{GROUP}/expected-duration-seconds"
"""The annotation that says how long a run takes."""
WORKER_SLOTS: Final = 25
"""Of a worker that says nothing else."""

Spec = TypeVar("Spec", PeriodicJobSpec, ScheduledJobSpec, WorkerPoolSpec)


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """One object, and the file that it is in."""

    file: str
    manifest: Manifest

    @property
    def key(self) -> Key:
        """Which object."""
        return self.manifest.key

    @property
    def name(self) -> str:
        """What people call it where only one kind is meant."""
        return f"{self.key.namespace}/{self.key.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A file or an object that cannot be used, and why; ``key`` is None for a whole file."""

    file: str
    key: Key | None
    error: PgSchedulerError


@dataclass(frozen=True, slots=True, kw_only=True)
class Namespace:
    """The objects of one namespace as the simulation takes them; names in the scene are those of the objects."""

    name: str
    scene: Scene
    objects: Mapping[str, Declared]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What the command line says beside the files."""

    begins_at: datetime
    ends_at: datetime
    slots: int | None = None
    durations: Mapping[str, float] = field(default_factory=dict)


def declared_in(paths: Iterable[Path]) -> tuple[list[Declared], list[Refused]]:
    """The objects in files, and in the files of folders; of two with one key the first counts."""
    found: dict[Key, Declared] = {}
    refused: list[Refused] = []
    for path in paths:
        files = manifest_files(path) if path.is_dir() else [path]
        if not files:
            error = InvalidManifest("the folder holds no manifests", fix="name files, or a folder with *.yaml in it")
            refused.append(Refused(file=str(path), key=None, error=error))
        for file in files:
            try:
                manifests = read_manifests(file)
            except InvalidManifest as error:
                refused.append(Refused(file=str(file), key=None, error=error))
                continue
            for manifest in manifests:
                first = found.setdefault(manifest.key, Declared(file=str(file), manifest=manifest))
                if first.manifest is not manifest:
                    twice = InvalidManifest(f"it is in {first.file} already", fix="keep one of the two")
                    refused.append(Refused(file=str(file), key=manifest.key, error=twice))
    return list(found.values()), refused


def namespaces(objects: Sequence[Declared], wish: Wish) -> tuple[list[Namespace], list[Refused]]:
    """The scenes of the objects, and those among them that cannot be used.

    Raises:
        InvalidArgument: a duration is given for an object that is not there.
    """
    _require_known(objects, wish)
    refused: list[Refused] = []
    by_namespace: dict[str, list[Declared]] = defaultdict(list)
    for each in objects:
        by_namespace[each.key.namespace].append(each)
    scenes = [_namespace(name, declared, wish, refused) for name, declared in sorted(by_namespace.items())]
    return [each for each in scenes if each.objects], refused


def spec_of(declared: Declared, model: type[Spec]) -> Spec:
    """What the object wants.

    Raises:
        InvalidSpec: it cannot be done.
    """
    key = declared.key
    metadata = {"name": key.name, "namespace": key.namespace, "uid": "", "generation": 1}
    body = {"kind": key.kind.value, "metadata": metadata, "spec": declared.manifest.spec}
    spec = read(model, body, cluster="").spec
    if isinstance(spec, InvalidSpec):
        raise spec
    return spec


def _namespace(name: str, objects: Iterable[Declared], wish: Wish, refused: list[Refused]) -> Namespace:
    schedules: list[SimulatedSchedule] = []
    jobs: list[SimulatedJob] = []
    slots: list[int] = []
    taken: dict[str, Declared] = {}
    for declared in objects:
        try:
            match declared.key.kind:
                case Kind.PERIODIC_JOB:
                    schedules.append(_schedule(declared, wish))
                    taken[declared.name] = declared
                case Kind.SCHEDULED_JOB:
                    for job in _job(declared, wish):
                        jobs.append(job)
                        taken[job.name] = declared
                case Kind.WORKER_POOL:
                    slots += _slots(spec_of(declared, WorkerPoolSpec))
        except InvalidArgument as error:
            refused.append(Refused(file=declared.file, key=declared.key, error=error))
    fleet = Fleet(slots=wish.slots or sum(slots) or None)
    scene = Scene(
        begins_at=wish.begins_at, ends_at=wish.ends_at, schedules=tuple(schedules), jobs=tuple(jobs), fleet=fleet
    )
    return Namespace(name=name, scene=scene, objects=taken)


def _schedule(declared: Declared, wish: Wish) -> SimulatedSchedule:
    spec = spec_of(declared, PeriodicJobSpec)
    try:
        rule, bounds = spec.schedule.rule, spec.bounds
    except InvalidSchedule as error:
        raise InvalidSpec(error.what, field=f"spec.schedule.{error.field}", why=error.why, fix=error.fix) from error
    wanted = definition(
        declared.name,
        rule,
        bounds=bounds,
        policy=spec.policy,
        priority=JobPriority[spec.job_template.spec.priority.name],
        suspended=spec.suspend,
        suspend_reason=spec.suspend_reason if spec.suspend else "",
    )
    return SimulatedSchedule(definition=wanted, takes_seconds=_duration(declared, wish))


def _job(declared: Declared, wish: Wish) -> Iterator[SimulatedJob]:
    """The job, unless it is held back or due before the simulation begins."""
    spec = spec_of(declared, ScheduledJobSpec)
    run_at = spec.run_at or wish.begins_at
    if not (spec.suspend or spec.cancel or run_at < wish.begins_at):
        yield SimulatedJob(
            name=f"{declared.name} (once)",
            run_at=run_at,
            takes_seconds=_duration(declared, wish),
            priority=_priority(spec.template),
        )


def _priority(template: JobTemplate | None) -> JobPriority:
    """That of an extra run is said elsewhere, in the manifest of its PeriodicJob."""
    return JobPriority.NORMAL if template is None else JobPriority[template.spec.priority.name]


def _slots(pool: WorkerPoolSpec) -> Iterator[int]:
    """The slots of a pool at its largest; of one that somebody else scales nobody knows."""
    if pool.autoscaling.mode is not ScalingMode.OFF and pool.autoscaling.max_replicas:
        yield pool.autoscaling.max_replicas * (pool.slots_hint or WORKER_SLOTS)


def _duration(declared: Declared, wish: Wish) -> float:
    for name in (declared.name, declared.key.name):
        if name in wish.durations:
            return wish.durations[name]
    text = declared.manifest.annotations.get(DURATION)
    if text is None:
        return 1.0
    try:
        return float(text)
    except (TypeError, ValueError):
        raise InvalidSpec(
            f"the annotation {DURATION} is {str(text)[:40]!r}",
            field=f"metadata.annotations[{DURATION}]",
            fix='give seconds in quotes, such as "90"',
        ) from None


def _require_known(objects: Iterable[Declared], wish: Wish) -> None:
    known = {name for each in objects for name in (each.name, each.key.name)}
    if unknown := next((name for name in wish.durations if name not in known), None):
        raise InvalidArgument(
            f"a duration is given for {unknown[:63]!r}", why="the files hold no such object", fix="name one of theirs"
        )
