"""JSON schemas for editors take every example, and refuse what a schema can know to be wrong."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from openapi_schema_validator import OAS31Validator

from pg_scheduler_operator.editor_schemas import files
from pg_scheduler_operator.resources import GROUP
from support.operator_world import periodic_job, scheduled_job, worker_pool
from support.paths import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SCHEMAS = {name.removesuffix(".json"): OAS31Validator(json.loads(text)) for name, text in files().items()}
ONLY_A_RULE_REFUSES = sorted((ROOT / "examples" / "invalid").glob("*.yaml"))
FOLDERS = ("examples/manifests", "examples/scaling")
BODIES = {"periodicjob": periodic_job(), "scheduledjob": scheduled_job(), "workerpool": worker_pool()}


def ours(*folders: str) -> Iterator[dict[str, Any]]:
    for folder in folders:
        for path in sorted((ROOT / folder).glob("*.yaml")):
            bodies = yaml.safe_load_all(path.read_text(encoding="utf-8"))
            yield from (body for body in bodies if body["apiVersion"].startswith(GROUP))


def mistakes(body: dict[str, Any]) -> list[str]:
    """Where the schema of its kind finds one, as paths."""
    return [error.json_path for error in SCHEMAS[body["kind"].lower()].iter_errors(body)]


def test_schemas_are_valid_and_there_is_one_for_each_kind() -> None:
    assert SCHEMAS.keys() == BODIES.keys()
    for schema in SCHEMAS.values():
        OAS31Validator.check_schema(schema.schema)
        assert "x-kubernetes" not in json.dumps(schema.schema)


def test_every_example_is_taken() -> None:
    bodies = list(ours(*FOLDERS))

    assert {body["kind"].lower() for body in bodies} == SCHEMAS.keys()
    assert [found for body in bodies for found in mistakes(body)] == []


@pytest.mark.parametrize("path", ONLY_A_RULE_REFUSES, ids=lambda path: path.stem)
def test_what_only_a_rule_refuses_is_taken(path: Path) -> None:
    body = yaml.safe_load(path.read_text(encoding="utf-8"))

    assert mistakes(body) == []


def manifest(kind: str, **changes: Any) -> dict[str, Any]:
    named = {"periodicjob": "PeriodicJob", "scheduledjob": "ScheduledJob", "workerpool": "WorkerPool"}[kind]
    return {
        "apiVersion": f"{GROUP}/v1alpha1",
        "kind": named,
        "metadata": {"name": "a", "labels": {"x": "y"}},
        "spec": BODIES[kind],
        **changes,
    }


@pytest.mark.parametrize("kind", BODIES)
@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({}, []),
        ({"apiVersion": f"{GROUP}/v1"}, ["$.apiVersion"]),
        ({"spec": None}, ["$.spec"]),
        ({"sepc": {}}, ["$"]),
        ({"status": {}}, ["$"]),
    ],
)
def test_head_of_a_manifest_is_checked(kind: str, changes: dict[str, Any], where: list[str]) -> None:
    assert mistakes(manifest(kind, **changes)) == where


@pytest.mark.parametrize(
    ("kind", "changes", "where"),
    [
        ("periodicjob", {"overlapPolicy": "Skipp"}, "$.spec.overlapPolicy"),
        ("periodicjob", {"schedule": {"intervalSeconds": "60"}}, "$.spec.schedule.intervalSeconds"),
        ("periodicjob", {"schedule": {"intervalSeconds": 60, "zone": "Etc/UTC"}}, "$.spec.schedule"),
        ("scheduledjob", {"namespace": "other"}, "$.spec"),
        ("workerpool", {"replicas": -1}, "$.spec.replicas"),
    ],
)
def test_mistake_is_found_where_it_is(kind: str, changes: dict[str, Any], where: str) -> None:
    assert mistakes(manifest(kind, spec={**BODIES[kind], **changes})) == [where]


def test_free_values_stay_free() -> None:
    template = {"spec": {"task": "t", "kwargs": {"anything": [1, {"goes": None}]}, "args": ["a", 1, {"b": []}]}}

    assert mistakes(manifest("scheduledjob", spec={"template": template})) == []
