"""The CRDs, from the models of ``resources``.

Invariant: only what the table of keywords below knows comes through; anything else raises ``UnsupportedSchema``, so
that no bound is dropped in silence. Every property has a description, every text, list and map a bound (the API server
counts the cost of rules by them).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import yaml

from pg_scheduler_operator.errors import UnsupportedSchema
from pg_scheduler_operator.resources import (
    CRD_REVISION,
    GROUP,
    NAME_MAX,
    VERSION,
    Kind,
    PeriodicJobSpec,
    PeriodicJobStatus,
    ScheduledJobSpec,
    ScheduledJobStatus,
    WorkerPoolSpec,
    WorkerPoolStatus,
    cel,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pg_scheduler_operator.resources import Model

Schema = dict[str, Any]

REVISION: Final = 1
"""Rises with each change of a CRD, and is on each: by it an operator knows older ones. Those up to 0.4.0 have none."""

_KEPT: Final[Sequence[str]] = (
    "type", "description", "default", "enum", "pattern", "format", "minLength", "maxLength", "minimum", "maximum",
    "minItems", "maxItems", "maxProperties", "required", "nullable", "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-list-type", "x-kubernetes-list-map-keys", "x-kubernetes-validations",
)  # fmt: skip
_NESTED: Final[Sequence[str]] = ("properties", "items", "additionalProperties")
_DROPPED: Final = {"title", "$defs"}
_BOUND_BY: Final = {"array": "maxItems", "object": "maxProperties", "string": "maxLength"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of ``kubectl get``."""

    name: str
    path: str
    type: str = "string"
    description: str
    wide: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """What a CRD holds beside the fields of its models."""

    kind: Kind
    short_name: str
    description: str
    spec: type[Model]
    status: type[Model]
    validations: Sequence[Mapping[str, str]] = ()
    columns: Sequence[Column] = ()
    has_scale: bool = False


_SHORT_NAME: Final = cel(
    f"size(self.metadata.name) <= {NAME_MAX}", f"the name must have at most {NAME_MAX} characters", ".metadata.name"
)
_SAME: Final = (
    "has(self.spec.{0}) == has(oldSelf.spec.{0}) && (!has(self.spec.{0}) || self.spec.{0} == oldSelf.spec.{0})"
)
_UNCHANGED_ONCE_STARTED: Final = cel(
    "!has(oldSelf.status) || !has(oldSelf.status.startTime) || "
    f"({_SAME.format('template')} && {_SAME.format('periodicJobRef')} && {_SAME.format('runAt')})",
    "template, periodicJobRef and runAt cannot be changed once the job has started; make a new ScheduledJob",
    ".spec.template",
)
_AGE: Final = Column(name="Age", path=".metadata.creationTimestamp", type="date", description="Time since it was made.")


def _condition(name: str, description: str, *, column: str | None = None, wide: bool = False) -> Column:
    path = f'.status.conditions[?(@.type=="{name}")].status'
    return Column(name=column or name, path=path, description=description, wide=wide)


DEFINITIONS: Final[Sequence[Definition]] = (
    Definition(
        kind=Kind.PERIODIC_JOB,
        short_name="pjob",
        description="A schedule kept in the database; any living worker turns its ticks into jobs.",
        spec=PeriodicJobSpec,
        status=PeriodicJobStatus,
        validations=(_SHORT_NAME,),
        columns=(
            Column(name="Schedule", path=".status.schedule", description="The rule in a few words."),
            Column(name="Zone", path=".spec.schedule.timeZone", description="Zone that cron is read in."),
            Column(name="Suspend", path=".spec.suspend", type="boolean", description="Whether no tick fires."),
            Column(name="Last", path=".status.lastScheduleTime", type="date", description="Time since the last tick."),
            # a date column would show <invalid> for what lies ahead
            Column(name="Next", path=".status.nextScheduleTimes[0]", description="The next tick."),
            _condition("OnSchedule", "Whether the newest tick was on time."),
            _condition("Ready", "Whether the schedule is in the database as written."),
            _AGE,
            Column(name="Queue", path=".spec.jobTemplate.spec.queue", description="Where its jobs wait.", wide=True),
            Column(name="Worker", path=".status.lastRun.worker", description="Worker of the newest run.", wide=True),
            Column(
                name="Reason",
                path='.status.conditions[?(@.type=="Ready")].reason',
                description="Why it is ready or not.",
                wide=True,
            ),
        ),
    ),
    Definition(
        kind=Kind.SCHEDULED_JOB,
        short_name="sjob",
        description="One job, run once.",
        spec=ScheduledJobSpec,
        status=ScheduledJobStatus,
        validations=(_SHORT_NAME, _UNCHANGED_ONCE_STARTED),
        columns=(
            Column(name="Task", path=".spec.template.spec.task", description="What runs."),
            Column(name="RunAt", path=".spec.runAt", description="When it becomes due."),
            Column(name="State", path=".status.state", description="Where it stands."),
            Column(name="Attempt", path=".status.attempt", type="integer", description="How often it was started."),
            _condition("Finished", "Whether it has ended, whatever way."),
            _AGE,
            Column(name="Queue", path=".spec.template.spec.queue", description="Where it waits.", wide=True),
            Column(name="Worker", path=".status.worker", description="Worker of the newest attempt.", wide=True),
            Column(
                name="Reason",
                path='.status.conditions[?(@.type=="Ready")].reason',
                description="Why it is ready or not.",
                wide=True,
            ),
        ),
    ),
    Definition(
        kind=Kind.WORKER_POOL,
        short_name="wpool",
        description="Scales a Deployment of workers with what the namespace's jobs ask for.",
        spec=WorkerPoolSpec,
        status=WorkerPoolStatus,
        has_scale=True,
        columns=(
            Column(name="Target", path=".spec.targetRef.name", description="The Deployment."),
            Column(name="Ready", path=".status.readyReplicas", type="integer", description="Replicas that are ready."),
            Column(name="Desired", path=".status.desiredReplicas", type="integer", description="Replicas asked for."),
            Column(name="Due", path=".status.demand.due", type="integer", description="Jobs that could run now."),
            Column(name="Running", path=".status.demand.running", type="integer", description="Jobs that run."),
            Column(
                name="Orphaned", path=".status.demand.orphaned", type="integer", description="Jobs of dead workers."
            ),
            _condition("ScalingActive", "Whether the operator scales it.", column="Scaling"),
            _AGE,
            Column(
                name="Reason",
                path='.status.conditions[?(@.type=="ScalingActive")].reason',
                description="Why it is scaled or not.",
                wide=True,
            ),
        ),
    ),
)


def crds() -> list[dict[str, Any]]:
    """The three CustomResourceDefinitions."""
    return [_crd(definition) for definition in DEFINITIONS]


def render() -> str:
    """The same as YAML, for ``kubectl apply -f -``."""
    return "---\n".join(document(crd) for crd in crds())


def files() -> dict[str, str]:
    """One CRD a kind, by the name of its file."""
    return {f"{crd['spec']['names']['plural']}.yaml": document(crd) for crd in crds()}


def document(crd: Mapping[str, Any]) -> str:
    """One of them as YAML."""
    return yaml.safe_dump(dict(crd), sort_keys=False, width=1000, allow_unicode=True)


def _crd(definition: Definition) -> dict[str, Any]:
    kind = definition.kind
    names = {
        "kind": kind.value,
        "listKind": f"{kind.value}List",
        "plural": kind.plural,
        "singular": kind.value.lower(),
        "shortNames": [definition.short_name],
        "categories": ["pgs"],
    }
    version = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": _root(definition)},
        "subresources": {"status": {}} | ({"scale": _SCALE} if definition.has_scale else {}),
        "additionalPrinterColumns": [_column(column) for column in definition.columns],
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": kind.crd_name, "annotations": {CRD_REVISION: str(REVISION)}},
        "spec": {"group": GROUP, "scope": "Namespaced", "names": names, "versions": [version]},
    }


_SCALE: Final = {
    "specReplicasPath": ".spec.replicas",
    "statusReplicasPath": ".status.replicas",
    "labelSelectorPath": ".status.selector",
}


def _column(column: Column) -> dict[str, Any]:
    priority = {"priority": 1} if column.wide else {}
    return {
        "name": column.name,
        "type": column.type,
        "description": column.description,
        "jsonPath": column.path,
        **priority,
    }


def _root(definition: Definition) -> Schema:
    schema: Schema = {
        "type": "object",
        "description": definition.description,
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string", "description": f"{GROUP}/{VERSION}"},
            "kind": {"type": "string", "description": definition.kind.value},
            # declared so that a rule's fieldPath may name it; 253 is what the API server allows anyway
            "metadata": {"type": "object", "properties": {"name": {"type": "string", "maxLength": 253}}},
            "spec": openapi(definition.spec),
            "status": openapi(definition.status),
        },
    }
    if definition.validations:
        schema["x-kubernetes-validations"] = [dict(rule) for rule in definition.validations]
    return schema


def openapi(model: type[Model]) -> Schema:
    """A model as structural OpenAPI v3.

    Raises:
        UnsupportedSchema: it holds a keyword without a rule, a property without description, or a value without bound.
    """
    schema = model.model_json_schema(by_alias=True, mode="validation")
    return _converted(schema, schema.get("$defs", {}), model.__name__)


def _converted(schema: Schema, definitions: Mapping[str, Schema], path: str) -> Schema:
    schema = _without_null(_resolved(schema, definitions), definitions, path)
    unknown = schema.keys() - {*_KEPT, *_NESTED, *_DROPPED}
    if unknown:
        raise UnsupportedSchema(f"{path} has the keyword {min(unknown)}", fix="teach crdgen.py what it means")
    result = {keyword: schema[keyword] for keyword in _KEPT if keyword in schema}
    if "properties" in schema:
        properties = schema["properties"].items()
        result["properties"] = {name: _property(child, definitions, f"{path}.{name}") for name, child in properties}
    if "items" in schema:
        result["items"] = _converted(schema["items"], definitions, f"{path}[]")
    if schema.get("additionalProperties", False) is not False:
        result["additionalProperties"] = _converted(schema["additionalProperties"], definitions, f"{path}.*")
    return _checked(result, path)


def _resolved(schema: Schema, definitions: Mapping[str, Schema]) -> Schema:
    reference = schema.get("$ref")
    if reference is None:
        return schema
    rest = {keyword: value for keyword, value in schema.items() if keyword != "$ref"}
    return definitions[reference.removeprefix("#/$defs/")] | rest


def _without_null(schema: Schema, definitions: Mapping[str, Schema], path: str) -> Schema:
    """``X | None = None`` says "may be left out": no field takes null."""
    if "anyOf" not in schema:
        return _without_empty_default(schema)
    options = [option for option in schema["anyOf"] if option != {"type": "null"}]
    if len(options) != 1 or schema.get("default") is not None:
        raise UnsupportedSchema(f"{path} is a union", fix="only `X | None = None` has a meaning in a CRD")
    rest = {keyword: value for keyword, value in schema.items() if keyword not in {"anyOf", "default"}}
    return _resolved(options[0], definitions) | rest


def _without_empty_default(schema: Schema) -> Schema:
    if schema.get("default") in ([], {}):
        return {keyword: value for keyword, value in schema.items() if keyword != "default"}
    return schema


def _property(schema: Schema, definitions: Mapping[str, Schema], path: str) -> Schema:
    result = _converted(schema, definitions, path)
    if not result.get("description"):
        raise UnsupportedSchema(f"{path} has no description", fix="describe it: kubectl explain shows it")
    return result


def _checked(schema: Schema, path: str) -> Schema:
    bound = _BOUND_BY.get(schema.get("type", ""))
    is_bounded = "enum" in schema or "format" in schema or "properties" in schema
    if bound is not None and bound not in schema and not is_bounded:
        raise UnsupportedSchema(f"{path} has no {bound}", fix="bound it: rules are costed by it")
    return schema
