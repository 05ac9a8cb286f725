"""The examples: valid against the CRDs, known to their own tasks, and the wrong ones wrong in one way each."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from openapi_schema_validator import OAS30Validator

from pg_scheduler_operator.errors import InvalidSpec
from pg_scheduler_operator.resources import PeriodicJobSpec, ScheduledJobSpec, read
from support.paths import ROOT

if TYPE_CHECKING:
    from pathlib import Path

EXAMPLES = ROOT / "examples"
MANIFESTS = sorted((EXAMPLES / "manifests").glob("*.yaml"))
MODELS: dict[str, Any] = {"ScheduledJob": ScheduledJobSpec, "PeriodicJob": PeriodicJobSpec}
INVALID = sorted((EXAMPLES / "invalid").glob("*.yaml"))


def only(path: Path) -> dict[str, Any]:
    (body,) = yaml.safe_load_all(path.read_text(encoding="utf-8"))
    assert isinstance(body, dict)
    return body


def schema_of(kind: str) -> Any:
    crd = only(ROOT / "crds" / f"{kind.lower()}s.yaml")
    (version,) = crd["spec"]["versions"]
    assert (crd["spec"]["names"]["kind"], version["name"]) == (kind, "v1alpha1")
    return version["schema"]["openAPIV3Schema"]


def faults_of(body: dict[str, Any]) -> list[str]:
    validator: Any = OAS30Validator  # untyped
    return [error.message for error in validator(schema_of(body["kind"])).iter_errors(body)]


def task_of(body: dict[str, Any]) -> str:
    template = body["spec"].get("template") or body["spec"]["jobTemplate"]
    return str(template["spec"]["task"])


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_example_has_no_field_that_the_operator_does_not_know(path: Path) -> None:
    body = only(path)
    body["metadata"] |= {"namespace": "default", "uid": "u", "generation": 1}

    assert not isinstance(read(MODELS[body["kind"]], body, cluster="test").spec, InvalidSpec)


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_example_is_valid_against_the_crd(path: Path) -> None:
    body = only(path)

    assert body["apiVersion"] == "pgscheduler.io/v1alpha1"
    assert faults_of(body) == []
    assert set(body["metadata"]) == {"name"}, "kubectl's namespace counts"
    assert path.stem == body["metadata"]["name"]


def test_examples_are_what_the_demo_promises() -> None:
    bodies = [only(path) for path in MANIFESTS]
    interval, nightly = (body["spec"]["schedule"] for body in bodies if body["kind"] == "PeriodicJob")

    assert [body["kind"] for body in bodies].count("ScheduledJob") == 2
    assert interval == {"intervalSeconds": 3}
    assert (nightly["cron"], nightly["timeZone"]) == (["30 2 * * *"], "Etc/UTC")
    assert "pgscheduler.ping" in map(task_of, bodies)


def test_nightly_example_shows_every_field_beside_the_rule() -> None:
    text = (EXAMPLES / "manifests" / "nightly-report.yaml").read_text()
    spec = schema_of("PeriodicJob")["properties"]["spec"]["properties"]
    fields = {*spec, *spec["schedule"]["properties"]} - {"intervalSeconds", "phaseSeconds"}

    assert [field for field in sorted(fields) if f"{field}:" not in text] == []


def test_example_of_a_job_shows_every_field() -> None:
    text = (EXAMPLES / "manifests" / "count-primes.yaml").read_text()
    spec = schema_of("ScheduledJob")["properties"]["spec"]["properties"]
    template = spec["template"]["properties"]["spec"]["properties"]
    fields = {*spec, *template, *template["retryPolicy"]["properties"], *template["concurrency"]["properties"]}

    assert [field for field in sorted(fields) if f"{field}:" not in text] == []


def test_example_tasks_are_those_that_the_manifests_name() -> None:
    script = "import tasks; from pg_scheduler.tasks import registry; print(*registry.keys())"
    printed = subprocess.run(
        [sys.executable, "-c", script], cwd=EXAMPLES, capture_output=True, text=True, check=True
    ).stdout

    assert set(printed.split()) == set(map(task_of, map(only, MANIFESTS))) - {"pgscheduler.ping"}


@pytest.mark.parametrize("path", INVALID, ids=lambda path: path.stem)
def test_invalid_example_says_what_is_wrong(path: Path) -> None:
    assert path.read_text().startswith("# ")
    assert path.stem == only(path)["metadata"]["name"]


def test_invalid_examples_are_wrong_in_one_way_each() -> None:
    wrong = {path.stem: only(path)["spec"] for path in INVALID}
    known = set(map(task_of, map(only, MANIFESTS)))

    assert set(wrong) == {"bad-cron", "bad-zone", "cron-and-interval", "unknown-task", *REFUSED_BY_A_RULE}
    assert wrong["bad-cron"]["schedule"] == {"cron": ["0 25 * * *"]}
    assert wrong["bad-zone"]["schedule"]["timeZone"] == "Mars/Phobos"
    assert set(wrong["cron-and-interval"]["schedule"]) == {"cron", "intervalSeconds"}
    assert [path.stem for path in INVALID if task_of(only(path)) not in known] == ["unknown-task"]


REFUSED_BY_A_RULE = {
    "seconds-without-cron": "seconds goes with cron only",
    "phase-above-interval": "must be below it",
    "jitter-above-interval": "jitterSeconds must be below intervalSeconds",
    "end-before-start": "endTime must be after startTime",
    "start-before-1970": "must not be before the year 1970",
    "end-in-9999": "must be before the year 9999",
    "template-and-reference": "exactly one of template and periodicJobRef is needed",
    "password-as-argument": "no variable whose name begins with PG is ever given to a job",
    "delays-reversed": "initialDelaySeconds must not be above maxDelaySeconds",
    "concurrency-beside-skip": "concurrency needs overlapPolicy Allow",
}


@pytest.mark.parametrize(("name", "says"), REFUSED_BY_A_RULE.items())
def test_example_that_a_rule_of_the_crd_refuses_is_refused_from_a_folder_too(name: str, says: str) -> None:
    body = only(EXAMPLES / "invalid" / f"{name}.yaml")
    body["metadata"] |= {"namespace": "default", "uid": "u", "generation": 1}

    assert faults_of(body) == []
    assert says in str(read(MODELS[body["kind"]], body, cluster="test").spec)
    assert says in (ROOT / "crds" / f"{body['kind'].lower()}s.yaml").read_text()
