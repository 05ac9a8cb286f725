"""New ScheduledJobs: an extra run, the runs of ticks that have passed, a run once more.

Invariants: pure; the run of a tick has a name that is made of the schedule's and of the tick, so that it is made once
however often it is asked for; arguments are copied and never shown.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from pg_scheduler.errors import IllegalTransition
from pg_scheduler_operator.plugin.facts import holds, namespace_of, reference_to, spec_of, state_of
from pg_scheduler_operator.resources import API_VERSION, GROUP, NAME_MAX, PERIODIC_JOB_LABEL, Kind, stamp

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from pg_scheduler_operator.plugin.facts import Body

CREATED_BY: Final = f"{GROUP}/created-by"
_RANDOM_LENGTH: Final = 5
"""What the API server adds to ``generateName``."""
_DIGEST_LENGTH: Final = 6
_NOT_COPIED: Final = frozenset({"runAt", "suspend", "cancel", "idempotencyKey", "conflictPolicy"})
"""Of the run that was: when, and whether; and the key that lets only one such run be."""


def extra_run(periodic_job: Body) -> dict[str, Any]:
    """A run now, beside the schedule."""
    name = periodic_job["metadata"]["name"]
    metadata = {"generateName": _prefix(name), "labels": _labels("trigger", name)}
    return _scheduled_job(periodic_job, metadata, {"periodicJobRef": {"name": name}})


def run_again(job: Body) -> dict[str, Any]:
    """A job that has ended, once more and now, under another name.

    Raises:
        IllegalTransition: it has not ended.
    """
    if not holds(job, "Finished"):
        raise IllegalTransition(
            f"{reference_to(job)} has not ended",
            why=f"it is {state_of(job) or 'not accepted yet'}",
            fix="wait for it, or cancel it: kubectl patch it with spec.cancel: true",
        )
    name = job["metadata"]["name"]
    periodic_job = (spec_of(job).get("periodicJobRef") or {}).get("name")
    metadata = {"generateName": _prefix(name), "labels": _labels("rerun", periodic_job)}
    return _scheduled_job(job, metadata, {key: of for key, of in spec_of(job).items() if key not in _NOT_COPIED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Backfill:
    """The runs of ticks that have passed.

    Attributes:
        missing: what is to be made.
        existing: those that are there already.
    """

    missing: Sequence[Body]
    existing: Sequence[Body]


def backfill(periodic_job: Body, ticks: Sequence[datetime], existing: Collection[str]) -> Backfill:
    """One run for each tick, as late as it is: ``runAt`` is the tick, which the task sees as ``ctx.scheduled_at``."""
    name = periodic_job["metadata"]["name"]
    wanted = [_run_of(periodic_job, tick_name(name, tick), tick) for tick in ticks]
    return Backfill(
        missing=[each for each in wanted if each["metadata"]["name"] not in existing],
        existing=[each for each in wanted if each["metadata"]["name"] in existing],
    )


def tick_name(name: str, tick: datetime) -> str:
    """``nightly-20261125t070000z``; a long name is cut, and stays another than that of a name cut alike."""
    when = f"-{tick.astimezone(UTC):%Y%m%dt%H%M%Sz}"
    if len(name) + len(when) <= NAME_MAX:
        return name + when
    digest = sha256(name.encode()).hexdigest()[:_DIGEST_LENGTH]
    return f"{_cut(name, NAME_MAX - len(when) - len(digest) - 1)}-{digest}{when}"


def _run_of(periodic_job: Body, name: str, tick: datetime) -> dict[str, Any]:
    of = periodic_job["metadata"]["name"]
    metadata = {"name": name, "labels": _labels("backfill", of)}
    return _scheduled_job(periodic_job, metadata, {"periodicJobRef": {"name": of}, "runAt": stamp(tick)})


def _scheduled_job(beside: Body, metadata: dict[str, Any], spec: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": API_VERSION,
        "kind": Kind.SCHEDULED_JOB.value,
        "metadata": {**metadata, "namespace": namespace_of(beside)},
        "spec": spec,
    }


def _labels(how: str, periodic_job: str | None) -> dict[str, str]:
    return {CREATED_BY: how} | ({PERIODIC_JOB_LABEL: periodic_job} if periodic_job else {})


def _prefix(name: str) -> str:
    return f"{_cut(name, NAME_MAX - _RANDOM_LENGTH - 1)}-"


def _cut(name: str, length: int) -> str:
    return name[:length].rstrip("-.")
