"""What single objects say: the one place that knows where in them it stands.

Invariant: pure; what an object does not say is None, empty or false, never an error: the operator may not have seen it
yet, and may be older or newer than the plugin.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from pg_scheduler_operator.plugin.references import PLURALS, Reference
from pg_scheduler_operator.resources import ScalingMode
from pg_scheduler_operator.status import Reason, live_condition

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    Body = Mapping[str, Any]

DEFAULT_QUEUE: Final = "default"
WAITING_STATES: Final = frozenset({"Pending", "Waiting"})
_NOTHING: Final[Mapping[str, Any]] = {}


def reference_to(body: Body) -> Reference:
    """Which object it is, within its namespace."""
    plural = f"{body['kind'].lower()}s"
    short = next(short for short, name in PLURALS.items() if name == plural)
    return Reference(short=short, name=body["metadata"]["name"])


def namespace_of(body: Body) -> str:
    """Where it is."""
    return str(body["metadata"]["namespace"])


def of_kind(objects: Iterable[Body], short: str) -> list[Body]:
    """Those of one kind, by name."""
    found = [body for body in objects if reference_to(body).short == short]
    return sorted(found, key=lambda body: (namespace_of(body), body["metadata"]["name"]))


def spec_of(body: Body) -> Body:
    """What is wanted."""
    return body.get("spec") or _NOTHING


def status_of(body: Body) -> Body:
    """What the operator says."""
    return body.get("status") or _NOTHING


def condition(body: Body, name: str) -> Body:
    """One condition; empty when it is not there."""
    return live_condition(status_of(body), name)


def holds(body: Body, name: str) -> bool:
    """Whether a condition is true."""
    return bool(condition(body, name).get("status") == "True")


def fails(body: Body, name: str) -> bool:
    """Whether a condition is there and false."""
    return bool(condition(body, name).get("status") == "False")


def said(told: Body) -> str:
    """A condition's reason and message, in one line."""
    return ": ".join(filter(None, (told.get("reason"), " ".join(told.get("message", "").split()))))


def is_behind(body: Body) -> bool:
    """Whether the operator has not answered the spec as it stands."""
    return bool(status_of(body).get("observedGeneration") != body["metadata"].get("generation"))


def template_of(body: Body) -> Body:
    """The spec of the job that it makes; empty for a ScheduledJob that names a PeriodicJob instead."""
    template = spec_of(body).get("jobTemplate") or spec_of(body).get("template") or _NOTHING
    return template.get("spec") or _NOTHING


def task_of(body: Body) -> str:
    """The key of its task."""
    return str(template_of(body).get("task", ""))


def queue_of(body: Body) -> str:
    """The queue that its job waits in."""
    return str(template_of(body).get("queue", DEFAULT_QUEUE))


def job_of(body: Body) -> Body:
    """What is told of its job, or of its newest one: state, attempt, worker."""
    status = status_of(body)
    return status.get("lastRun") or _NOTHING if "jobTemplate" in spec_of(body) else status


def state_of(body: Body) -> str:
    """The state of that job, in one word; empty when there is none."""
    return str(job_of(body).get("state", ""))


def key_of(body: Body) -> tuple[str, int] | None:
    """Its job's concurrency key and how many hold it at a time."""
    concurrency = template_of(body).get("concurrency")
    return None if not concurrency else (str(concurrency.get("key")), int(concurrency.get("limit", 1)))


def queue_rule(pools: Iterable[Body], queue: str) -> tuple[Body, Body] | None:
    """What holds for a queue, for all workers of the namespace, and the pool that says it: the oldest that names it."""
    found = [(pool, rule) for pool in pools for rule in spec_of(pool).get("queues") or () if rule["name"] == queue]
    return min(found, key=lambda each: _age(each[0]), default=None)


def _age(body: Body) -> tuple[str, str]:
    return str(body["metadata"].get("creationTimestamp", "")), body["metadata"]["name"]


def replicas_most(pool: Body) -> int | None:
    """How many replicas it may have; None without limit, or when somebody else scales."""
    scaling = spec_of(pool).get("autoscaling") or _NOTHING
    return None if scaling.get("mode") == ScalingMode.OFF else scaling.get("maxReplicas")


def ready_replicas(pool: Body) -> int:
    """Workers that are there; one that tells no ready ones counts those that exist."""
    status = status_of(pool)
    return int(status.get("readyReplicas", status.get("replicas", 0)))


def demand_of(pool: Body, name: str) -> int:
    """One figure of what its jobs ask for."""
    return int((status_of(pool).get("demand") or _NOTHING).get(name, 0))


def next_times(periodic_job: Body) -> Sequence[datetime]:
    """The next ticks that the operator tells."""
    return [datetime.fromisoformat(text) for text in status_of(periodic_job).get("nextScheduleTimes") or ()]


def instant_in(text: str | None) -> datetime | None:
    """An instant as objects write it."""
    return None if text is None else datetime.fromisoformat(text)


def is_halted(periodic_job: Body) -> bool:
    """Whether failures in a row have suspended it."""
    told = condition(periodic_job, "Suspended")
    return bool(told.get("status") == "True" and told.get("reason") == Reason.SUSPENDED_AFTER_FAILURES)
