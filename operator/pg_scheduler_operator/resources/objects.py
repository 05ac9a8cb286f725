"""One object: which it is, what it wants, and its status as it stands.

Invariant: reading a body never fails for its spec: a bad one is a value, so that deletion and status go on without it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from pydantic import TypeAdapter, ValidationError

from pg_scheduler.control import Source
from pg_scheduler_operator.errors import InvalidSpec
from pg_scheduler_operator.resources.model import Instant
from pg_scheduler_operator.resources.scheduled_jobs import ScheduledJobSpec
from pg_scheduler_operator.resources.specs import PeriodicJobSpec, WorkerPoolSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

GROUP: Final = "pgscheduler.io"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"
FINALIZER: Final = f"{GROUP}/rows"
RESUME_REQUESTED_AT: Final = f"{GROUP}/resume-requested-at"
CRD_REVISION: Final = f"{GROUP}/crd-revision"
PERIODIC_JOB_LABEL: Final = f"{GROUP}/periodic-job"
"""Label of each job of a PeriodicJob, extra runs included: its name, also when it is gone."""
NAME_MAX: Final = 63
SHOWN_MAX: Final = 48


class Kind(StrEnum):
    """The kinds that the operator serves."""

    PERIODIC_JOB = "PeriodicJob"
    SCHEDULED_JOB = "ScheduledJob"
    WORKER_POOL = "WorkerPool"

    @property
    def plural(self) -> str:
        """The kind's name in URLs."""
        return f"{self.value.lower()}s"

    @property
    def crd_name(self) -> str:
        """The name of its CustomResourceDefinition."""
        return f"{self.plural}.{GROUP}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """Which object: what the queue holds. It says nothing about the object's state."""

    kind: Kind
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Meta:
    """What the operator reads of an object's metadata; it writes finalizers only.

    Attributes:
        created_at: None where the server does not say.
        resume_requested_at: the annotation of that name; None where it is missing, or is no instant.
    """

    key: Key
    uid: str
    generation: int
    resource_version: str
    cluster: str
    created_at: datetime | None = None
    finalizers: tuple[str, ...] = ()
    deletion_at: datetime | None = None
    resume_requested_at: datetime | None = None

    @property
    def is_deleting(self) -> bool:
        """Whether somebody has asked for the object's deletion."""
        return self.deletion_at is not None

    @property
    def is_held(self) -> bool:
        """Whether our finalizer is on it."""
        return FINALIZER in self.finalizers

    @property
    def source(self) -> Source:
        """The object as the owner of rows; its namespace is the tenant, whatever the spec says."""
        return Source(
            cluster=self.cluster,
            kind=self.key.kind.value,
            tenant=self.key.namespace,
            name=self.key.name,
            uid=self.uid,
            generation=self.generation,
        )


Spec = TypeVar("Spec", PeriodicJobSpec, ScheduledJobSpec, WorkerPoolSpec)


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource(Generic[Spec]):
    """One object: what it wants, or why that cannot be, and its status as it stands."""

    meta: Meta
    spec: Spec | InvalidSpec
    status: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetScale:
    """Replicas of a pool's target: as wanted by its spec, and as they exist; ``selector`` says which pods are its."""

    wanted: int
    existing: int
    selector: str = ""


class PodStage(IntEnum):
    """How far a pod has come. Of pods too many a ReplicaSet deletes the least of these first, whatever they cost."""

    UNSCHEDULED = 0
    PENDING = 1
    UNREADY = 2
    READY = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """One pod of a pool's target.

    Attributes:
        template: hash of the template that it was made from.
        deletion_cost: what its annotation tells the ReplicaSet; None without one.
        grace_seconds: how long it may take to end.
    """

    name: str
    uid: str
    created_at: datetime
    stage: PodStage = PodStage.READY
    is_terminating: bool = False
    template: str = ""
    deletion_cost: int | None = None
    grace_seconds: int = 30

    @property
    def is_ready(self) -> bool:
        """Whether it says that it works."""
        return self.stage is PodStage.READY


def read(model: type[Spec], body: Mapping[str, Any], *, cluster: str) -> Resource[Spec]:
    """The object of ``body``. A bad spec is a value here, not an exception: deletion and status go on without it."""
    return Resource(meta=meta_of(body, cluster), spec=_spec(model, body), status=body.get("status") or {})


def meta_of(body: Mapping[str, Any], cluster: str) -> Meta:
    """What the operator reads of a body's metadata."""
    metadata = body["metadata"]
    deleted = metadata.get("deletionTimestamp")
    return Meta(
        key=Key(kind=Kind(body["kind"]), namespace=metadata["namespace"], name=metadata["name"]),
        uid=metadata["uid"],
        generation=metadata["generation"],
        resource_version=metadata.get("resourceVersion", ""),
        cluster=cluster,
        created_at=_instant_in(metadata.get("creationTimestamp")),
        finalizers=tuple(metadata.get("finalizers") or ()),
        deletion_at=None if deleted is None else datetime.fromisoformat(deleted),
        resume_requested_at=_instant_in((metadata.get("annotations") or {}).get(RESUME_REQUESTED_AT)),
    )


def _instant_in(text: object) -> datetime | None:
    try:
        return _INSTANT.validate_python(text)
    except ValidationError:
        return None


_INSTANT: Final = TypeAdapter[datetime](Instant)


def _spec(model: type[Spec], body: Mapping[str, Any]) -> Spec | InvalidSpec:
    if len(body["metadata"]["name"]) > NAME_MAX:
        return InvalidSpec("the name is too long", field="metadata.name", fix=f"use at most {NAME_MAX} characters")
    try:
        text = json.dumps(body.get("spec") or {}, allow_nan=False)
        return model.model_validate_json(text, by_alias=True, by_name=False)
    except ValidationError as error:
        return _invalid(error)
    except (ValueError, RecursionError):
        return InvalidSpec("spec is no JSON", field="spec", fix="no NaN, no infinity, less nesting")


def _invalid(error: ValidationError) -> InvalidSpec:
    first = error.errors(include_url=False, include_context=False)[0]
    path, value = _path(first["loc"]), first["input"]
    match first["type"]:
        case "missing":
            return InvalidSpec(f"{path} is missing", field=path, fix="see kubectl explain")
        case "extra_forbidden":  # its value may well be the arguments, under a mistyped name: never shown
            return InvalidSpec(f"{path} is no field", field=path, fix="see kubectl explain")
        case _:
            why = first["msg"].removeprefix("Value error, ").replace("Tuple should", "the list should")
            fix = "put the word in quotes: YAML reads a bare one as true or false" if isinstance(value, bool) else ""
            # text where a list or an object belongs may be arguments too
            shown = "" if first["type"] in _CONTAINER_ERRORS else _shown(value)
            return InvalidSpec(f"{path}{shown} cannot be used", field=path, why=why, fix=fix)


_CONTAINER_ERRORS: Final = {"model_type", "model_attributes_type", "dict_type", "tuple_type", "list_type"}


def _path(location: tuple[int | str, ...]) -> str:
    path = "spec"
    for step in location:
        path += f"[{step}]" if isinstance(step, int) else f".{str(step)[:NAME_MAX]}"
    return path


def _shown(value: Any) -> str:
    """The value, shortened, of a field that holds one."""
    if not isinstance(value, str | int | float | bool):
        return ""
    text = json.dumps(value, ensure_ascii=True)
    return f" {text}" if len(text) <= SHOWN_MAX else f" {text[: SHOWN_MAX - 1]}…"
