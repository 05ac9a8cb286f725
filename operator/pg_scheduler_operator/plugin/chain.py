"""The way from an object to the workers, and what each link of it says.

Invariant: pure; a link that says nothing is left out; none holds an argument of a job.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pg_scheduler_operator.plugin.facts import (
    demand_of,
    job_of,
    key_of,
    queue_of,
    queue_rule,
    ready_replicas,
    reference_to,
    replicas_most,
    status_of,
    task_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pg_scheduler_operator.plugin.facts import Body
    from pg_scheduler_operator.plugin.picture import Picture

TASKS_MOST: Final = 10
EVENTS_MOST: Final = 3


def chain_of(picture: Picture) -> Mapping[str, str]:
    """What each link says, from the object on."""
    links = _OF_POOL if picture.short == "wpool" else _OF_JOB
    return {name: says for name, link in links.items() if (says := link(picture))}


def _object(picture: Picture) -> str:
    generation = picture.body["metadata"].get("generation")
    seen = status_of(picture.body).get("observedGeneration")
    return f"generation {generation}, {'not seen by the operator' if seen is None else f'the operator has seen {seen}'}"


def _conditions(picture: Picture) -> str:
    told = status_of(picture.body).get("conditions") or ()
    return ", ".join(f"{each['type']}={each['status']} ({each['reason']})" for each in told)


def _row(picture: Picture) -> str:
    job = job_of(picture.body)
    parts = [job.get("jobID"), job.get("state"), job.get("worker") and f"on {job['worker']}"]
    attempt = job.get("attempt")
    return ", ".join(str(part) for part in (*parts, attempt and f"attempt {attempt}") if part)


def _wanted(picture: Picture) -> str:
    if not picture.work:
        return ""
    key = key_of(picture.work)
    held = f", key {key[0]!r} ({key[1]} at a time)" if key else ""
    return f"task {task_of(picture.work)}, queue {queue_of(picture.work)}{held}"


def _queue(picture: Picture) -> str:
    """What pools say of its queue; a worker serves those of its PGSCHEDULER_QUEUES."""
    rule = queue_rule(picture.pools, queue_of(picture.work))
    if rule is None:
        return ""
    rate = rule[1].get("rateLimit") or {}
    limits = {
        "paused": rule[1].get("paused"),
        f"at most {rule[1].get('concurrency')} at a time": "concurrency" in rule[1],
        f"at most {rate.get('limit')} starts in {rate.get('perSeconds')} s": rate,
    }
    told = ", ".join(text for text, holds in limits.items() if holds) or "no limit"
    return f"{queue_of(picture.work)}: {told}, by {reference_to(rule[0])}"


def _pools(picture: Picture) -> str:
    return "; ".join(map(_figures, picture.pools)) or "there is no WorkerPool; workers may live without one"


def _figures(pool: Body) -> str:
    most = replicas_most(pool)
    of = "" if most is None else f" of at most {most}"
    figures = ", ".join(f"{demand_of(pool, name)} {name}" for name in ("due", "running", "orphaned"))
    return f"{pool['metadata']['name']}: {ready_replicas(pool)} workers{of}, {figures}"


def _knowing(picture: Picture) -> str:
    told = [pool for pool in picture.pools if status_of(pool).get("tasks")]
    if not told:
        return "no pool tells which tasks its workers know"
    knows = [pool["metadata"]["name"] for pool in told if task_of(picture.work) in status_of(pool)["tasks"]]
    return f"known to the workers of {', '.join(knows)}" if knows else "known to no worker"


def _events(picture: Picture) -> str:
    return "; ".join(
        f"{event.get('reason')}: {event.get('note') or event.get('message') or ''}"
        for event in picture.events[-EVENTS_MOST:]
    )


def _own_figures(picture: Picture) -> str:
    return _figures(picture.body)


def _tasks(picture: Picture) -> str:
    tasks = status_of(picture.body).get("tasks") or ()
    more = len(tasks) - TASKS_MOST
    return ", ".join(tasks[:TASKS_MOST]) + (f" and {more} more" if more > 0 else "")


_OF_JOB: Final[Mapping[str, Callable[[Picture], str]]] = {
    "object": _object,
    "conditions": _conditions,
    "wants": _wanted,
    "row": _row,
    "queue": _queue,
    "pools": _pools,
    "workers": _knowing,
    "events": _events,
}
_OF_POOL: Final[Mapping[str, Callable[[Picture], str]]] = {
    "object": _object,
    "conditions": _conditions,
    "figures": _own_figures,
    "tasks": _tasks,
    "events": _events,
}
