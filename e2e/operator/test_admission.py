"""What the API server itself takes and refuses, by schema and CEL, and in which words."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from cluster.processes import CommandError
from support.objects import FAR_AWAY, periodic_job, scheduled_job, task, worker_pool
from support.paths import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cluster.cluster import Cluster, Manifest
    from support.tenants import Tenant

_CRON = {"cron": ["30 2 * * *"]}
_CANCEL_STAYS = "cancel cannot be taken back; make a new ScheduledJob"
_STARTED_STAYS = (
    "template, periodicJobRef and runAt cannot be changed once the job has started; make a new ScheduledJob"
)
_KEY_STAYS = "idempotencyKey cannot be changed; make a new ScheduledJob"
_TARGET_STAYS = "targetRef cannot be changed"
_NAME_63, _NAME_64 = "n" * 63, "n" * 64


def _schedule(**schedule: Any) -> Manifest:
    return periodic_job("job", schedule=schedule)


def _queue(name: str) -> Manifest:
    return scheduled_job("job", {"spec": {"task": "t", "queue": name}})


def _policies(**spec: Any) -> Manifest:
    manifest = _schedule(**_CRON)
    return {**manifest, "spec": {**manifest["spec"], **spec}}


def _of_task(**fields: Any) -> Manifest:
    return scheduled_job("job", {"spec": {"task": "t", **fields}})


def _extra_run(**spec: Any) -> Manifest:
    return {**scheduled_job("job"), "spec": {"periodicJobRef": {"name": "nightly"}, **spec}}


_KEYED = {"spec": {"task": "t", "concurrency": {"key": "tenant-42"}}}
_TAKEN = {
    "cron": _schedule(**_CRON),
    "cron in a zone": _schedule(**_CRON, timeZone="Europe/Berlin"),
    "sixteen crons": _schedule(cron=["30 2 * * *"] * 16),
    "interval": _schedule(intervalSeconds=1),
    "phase and jitter": _schedule(intervalSeconds=5, phaseSeconds=4, jitterSeconds=4),
    "seconds": _schedule(**_CRON, seconds="0,30", jitterSeconds=86400),
    "clock changes": _schedule(**_CRON, nonexistentTimePolicy="Skip", ambiguousTimePolicy="Both"),
    "bounds": _schedule(**_CRON, startTime="1970-01-01T00:00:00Z", endTime="9998-12-31T23:59:59Z"),
    "start without end": _schedule(**_CRON, startTime="2026-12-01T00:00:00+02:00"),
    "policies": _policies(
        overlapPolicy="Replace",
        missedRunPolicy="RunAll",
        maxCatchUp=10_000,
        startingDeadlineSeconds=0,
        maxRuns=2**31 - 1,
        suspendAfterFailures=1000,
        suspendReason="moving\nhouse",
    ),
    "name of 63 characters": scheduled_job(_NAME_63),
    "runAt with a zone": scheduled_job("job", runAt="2026-12-01T09:00:00+01:00"),
    "runAt in 9998": scheduled_job("job", runAt="9998-12-31T23:59:59Z"),
    "made with cancel": scheduled_job("job", cancel=True),
    "arguments of all kinds": scheduled_job("job", task("t", a=None, b=[1, {"c": 2.5}], d="text", e=True)),
    "every field of a template": scheduled_job(
        "job",
        {
            "metadata": {"labels": {"team": "finance", "example.com/part": ""}},
            "spec": {
                "task": "t",
                "kwargs": {"a": 1},
                "argsFrom": [{"env": "REPORT_TOKEN", "into": "token"}, {"env": "REPORT_TOKEN", "into": "other"}],
                "retryPolicy": {
                    "maxRetries": 3,
                    "initialDelaySeconds": 1,
                    "maxDelaySeconds": 300,
                    "factor": 1.5,
                    "jitter": "Full",
                },
                "timeoutSeconds": 1800,
                "concurrency": {"key": "tenant 42", "limit": 2},
                "resultPolicy": "Status",
            },
        },
    ),
    "every field of a job": scheduled_job(
        "job",
        startingDeadlineSeconds=0,
        idempotencyKey="invoices/2026-12",
        conflictPolicy="Ignore",
        readyWhen="Complete",
        ttlSecondsAfterFinished=0,
        deletionPolicy="Orphan",
    ),
    "extra run": _extra_run(),
    "concurrency of runs that may overlap": _policies(overlapPolicy="Allow", jobTemplate=_KEYED),
    "pool": worker_pool("pool", target="workers", minReplicas=2, maxReplicas=2, slots_hint=5),
    "pool that only counts": worker_pool("pool", target="workers", mode="Off"),
}
_REFUSED = {
    "both": (_schedule(**_CRON, intervalSeconds=60), "give exactly one of cron and intervalSeconds"),
    "neither": (_schedule(timeZone="Etc/UTC"), "give exactly one of cron and intervalSeconds"),
    "no cron in the list": (_schedule(cron=[]), "spec.schedule.cron in body should have at least 1 items"),
    "seventeen crons": (_schedule(cron=["30 2 * * *"] * 17), "Too many: 17: must have at most 16 items"),
    "long cron": (_schedule(cron=["1" * 129]), "Too long: may not be more than 128"),
    "no interval": (_schedule(intervalSeconds=0), "should be greater than or equal to 1"),
    "seconds without cron": (
        _schedule(intervalSeconds=60, seconds="0"),
        "seconds goes with cron only; an interval is in seconds already",
    ),
    "phase beside cron": (
        _schedule(**_CRON, phaseSeconds=0),
        "phaseSeconds goes with intervalSeconds only, and must be below it",
    ),
    "phase as long as the interval": (
        _schedule(intervalSeconds=60, phaseSeconds=60),
        "spec.schedule.phaseSeconds: Invalid value",
    ),
    "jitter as long as the interval": (
        _schedule(intervalSeconds=60, jitterSeconds=60),
        "jitterSeconds must be below intervalSeconds",
    ),
    "jitter of two days": (_schedule(**_CRON, jitterSeconds=172_800), "should be less than or equal to 86400"),
    "end at the start": (
        _schedule(**_CRON, startTime="2026-12-01T00:00:00Z", endTime="2026-12-01T01:00:00+01:00"),
        "endTime must be after startTime",
    ),
    "start before 1970": (_schedule(**_CRON, startTime="1969-12-31T23:59:59Z"), "must not be before the year 1970"),
    "end in 9999": (_schedule(**_CRON, endTime="9999-01-01T00:00:00Z"), "must be before the year 9999"),
    "unknown overlap": (
        _policies(overlapPolicy="Forbid"),
        'Unsupported value: "Forbid": supported values: "Skip", "Queue", "Replace", "Allow"',
    ),
    "no run at all": (_policies(maxRuns=0), "spec.maxRuns in body should be greater than or equal to 1"),
    "too much to catch up": (_policies(maxCatchUp=10_001), "should be less than or equal to 10000"),
    "long reason": (_policies(suspendReason="x" * 257), "Too long: may not be more than 256"),
    "name of 64 characters": (scheduled_job(_NAME_64), "the name must have at most 63 characters"),
    "periodic name of 64 characters": (periodic_job(_NAME_64), "the name must have at most 63 characters"),
    "runAt in 9999": (scheduled_job("job", runAt="9999-01-01T00:00:00Z"), "must be before the year 9999"),
    "runAt without a zone": (scheduled_job("job", runAt="2026-12-01T09:00:00"), "must be of type date-time"),
    "no template": ({**scheduled_job("job"), "spec": {}}, "exactly one of template and periodicJobRef is needed"),
    "template and reference": (
        _extra_run(**scheduled_job("job")["spec"]),
        "exactly one of template and periodicJobRef is needed",
    ),
    "PostgreSQL's own variable": (
        _of_task(argsFrom=[{"env": "PGPASSWORD", "into": "p"}]),
        "no variable whose name begins with PG is ever given to a job",
    ),
    "argument given twice": (
        _of_task(argsFrom=[{"env": "A", "into": "a"}, {"env": "B", "into": "a"}]),
        "Duplicate value",
    ),
    "key of a schedule": (
        _of_task(concurrency={"key": "schedule:7"}),
        "a key must not begin with schedule: as those of schedules do",
    ),
    "delays the wrong way round": (
        _of_task(retryPolicy={"initialDelaySeconds": 2, "maxDelaySeconds": 1}),
        "initialDelaySeconds must not be above maxDelaySeconds",
    ),
    "concurrency of runs that do not overlap": (
        _policies(jobTemplate=_KEYED),
        "concurrency needs overlapPolicy Allow: with any other one a run holds the concurrency key of its schedule",
    ),
    "key with a space": (scheduled_job("job", idempotencyKey="a b"), "spec.idempotencyKey in body should match"),
    "task with a space": (
        scheduled_job("job", {"spec": {"task": "a b"}}),
        "spec.template.spec.task in body should match",
    ),
    "queue with a slash": (_queue("a/b"), "spec.template.spec.queue in body should match"),
    "unknown priority": (
        scheduled_job("job", {"spec": {"task": "t", "priority": "Urgent"}}),
        'Unsupported value: "Urgent": supported values: "Critical", "High", "Normal", "Low"',
    ),
    "minimum above maximum": (
        worker_pool("pool", target="workers", minReplicas=3, maxReplicas=2),
        "minReplicas must not be above maxReplicas",
    ),
    "no maximum": (worker_pool("pool", target="workers"), "maxReplicas is required unless mode is Off"),
    "unknown field": (scheduled_job("job", runIn="5m"), 'unknown field "spec.runIn"'),
}


@pytest.mark.usefixtures("crds")
@pytest.mark.parametrize("manifest", _TAKEN.values(), ids=_TAKEN)
def test_api_server_takes(cluster: Cluster, manifest: Manifest) -> None:
    cluster.kubectl("apply", "--dry-run=server", "--filename", "-", stdin=json.dumps(manifest))


@pytest.mark.usefixtures("crds")
@pytest.mark.parametrize(("manifest", "words"), _REFUSED.values(), ids=_REFUSED)
def test_api_server_refuses(cluster: Cluster, manifest: Manifest, words: str) -> None:
    with pytest.raises(CommandError, match=re.escape(words)):
        cluster.kubectl("apply", "--dry-run=server", "--filename", "-", stdin=json.dumps(manifest))


def test_every_rule_is_tried_and_refuses() -> None:
    """That they are cheap enough is what serving the kinds means: the API server takes none that may cost too much."""
    rules = [rule for file in (ROOT / "crds").glob("*.yaml") for rule in _rules(yaml.safe_load(file.read_text()))]
    tried = {*(words for _, words in _REFUSED.values()), _CANCEL_STAYS, _KEY_STAYS, _STARTED_STAYS, _TARGET_STAYS}

    assert rules
    assert {rule["message"] for rule in rules} <= tried


def test_cancel_cannot_be_taken_back(tenant: Tenant) -> None:
    tenant.apply(scheduled_job("job", runAt=FAR_AWAY, cancel=False))
    tenant.patch("sjob/job", cancel=True)

    with pytest.raises(CommandError, match=rf"spec\.cancel: .*{_CANCEL_STAYS}"):
        tenant.patch("sjob/job", cancel=False)
    with pytest.raises(CommandError, match=_CANCEL_STAYS):
        tenant.patch("sjob/job", cancel=None)
    tenant.patch("sjob/job", suspend=True)


def test_idempotency_key_cannot_be_changed(tenant: Tenant) -> None:
    tenant.apply(scheduled_job("job", runAt=FAR_AWAY, idempotencyKey="k"))

    for key in ("another", None):
        with pytest.raises(CommandError, match=_KEY_STAYS):
            tenant.patch("sjob/job", idempotencyKey=key)


def test_target_of_a_pool_cannot_be_changed(tenant: Tenant) -> None:
    tenant.apply(worker_pool("pool", target="workers", maxReplicas=2))

    with pytest.raises(CommandError, match=_TARGET_STAYS):
        tenant.apply(worker_pool("pool", target="others", maxReplicas=2))
    tenant.apply(worker_pool("pool", target="workers", maxReplicas=3))


def test_template_cannot_be_changed_once_the_job_has_started(tenant: Tenant) -> None:
    tenant.apply(scheduled_job("job"))
    tenant.patch("sjob/job", template=task("record", label="before"))
    started = {"status": {"startTime": "2026-12-01T09:00:00Z"}}
    tenant.kubectl("patch", "sjob/job", "--subresource=status", "--type=merge", "--patch", json.dumps(started))

    with pytest.raises(CommandError, match=_STARTED_STAYS):
        tenant.patch("sjob/job", template=task("record", label="after"))
    with pytest.raises(CommandError, match=_STARTED_STAYS):
        tenant.patch("sjob/job", runAt=FAR_AWAY)
    tenant.patch("sjob/job", cancel=True)


def test_largest_template_can_still_be_changed_and_held(tenant: Tenant) -> None:
    """The rules that compare templates stay within their cost."""
    arguments = {f"name_{number}": "x" * 20 for number in range(990)}
    tenant.apply(scheduled_job("job", task("t", **arguments)))

    tenant.patch("sjob/job", template=task("t", other="x" * 20))
    tenant.patch("sjob/job", suspend=True)


def _rules(part: object) -> Iterator[dict[str, str]]:
    if isinstance(part, dict):
        yield from part.get("x-kubernetes-validations", ())
        part = [*part.values()]
    if isinstance(part, list):
        for inner in part:
            yield from _rules(inner)
