"""What ``status`` shows: one screen of how all is.

Invariant: pure; what nobody has said, or nobody may read, is told as unknown and never as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pg_scheduler.cli.output import plain_lines
from pg_scheduler_operator.plugin.facts import (
    condition,
    demand_of,
    fails,
    holds,
    is_behind,
    is_halted,
    namespace_of,
    next_times,
    of_kind,
    ready_replicas,
    reference_to,
    said,
    spec_of,
    status_of,
)
from pg_scheduler_operator.plugin.ticks import shown
from pg_scheduler_operator.resources import ScalingMode

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from pg_scheduler_operator.plugin.facts import Body
    from pg_scheduler_operator.plugin.leader import Leader

SHOWN_MOST: Final = 10
"""Of problems and of ticks: it is one screen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """How all is.

    Attributes:
        operators: a line for each.
        problems: objects of which somebody should know, the most urgent kind first.
    """

    operators: Sequence[str]
    database: str
    pools: Sequence[dict[str, Any]]
    problems: Sequence[dict[str, Any]]
    next: Sequence[dict[str, Any]]


def overview(objects: Sequence[Body], leaders: Sequence[Leader] | None, *, now: datetime) -> Overview:
    """The screen; ``leaders`` is None where Leases may not be read."""
    pools = of_kind(objects, "wpool")
    return Overview(
        operators=_operators(objects, leaders),
        database=_database(pools),
        pools=[_pool(pool) for pool in pools],
        problems=[*_problems(objects)],
        next=_next(of_kind(objects, "pjob"), now),
    )


def lines_of(seen: Overview) -> list[str]:
    """The screen as text."""
    more = len(seen.problems) - SHOWN_MOST
    return [
        *(f"operator  {line}" for line in seen.operators),
        f"database  {seen.database}",
        "",
        *(plain_lines(seen.pools) or ["no WorkerPool"]),
        "",
        *(plain_lines(seen.problems[:SHOWN_MOST]) or ["no object in trouble"]),
        *([f"and {more} more: -o json shows all"] if more > 0 else []),
        "",
        *(plain_lines(seen.next) or ["no tick to come"]),
    ]


def _operators(objects: Sequence[Body], leaders: Sequence[Leader] | None) -> list[str]:
    waiting = sum(map(is_behind, objects))
    behind = [f"{waiting} objects wait for its answer"] if waiting else []
    if leaders is None:
        return ["unknown: you may not read Leases", *behind]
    return [*(leader.text for leader in leaders), *behind] if leaders else ["unknown: there is no Lease of it", *behind]


def _database(pools: Sequence[Body]) -> str:
    told = [condition(pool, "DatabaseReachable") for pool in pools]
    if away := next((each for each in told if each.get("status") == "False"), None):
        return f"not reachable ({said(away)})"
    if not any(each.get("status") == "True" for each in told):
        return "unknown: no WorkerPool tells"
    version = next((status_of(pool)["schemaVersion"] for pool in pools if "schemaVersion" in status_of(pool)), None)
    old = next((condition(pool, "SchemaCurrent") for pool in pools if fails(pool, "SchemaCurrent")), None)
    parts = ["reachable"]
    if version is not None:
        parts.append(f"schema {version}")
    if old is not None:
        parts.append(f"not current ({said(old)})")
    return ", ".join(parts)


def _pool(pool: Body) -> dict[str, Any]:
    status = status_of(pool)
    return {
        "pool": pool["metadata"]["name"],
        "namespace": namespace_of(pool),
        "ready": ready_replicas(pool),
        "desired": status.get("desiredReplicas", status.get("replicas")),
        "due": demand_of(pool, "due"),
        "running": demand_of(pool, "running"),
        "orphaned": demand_of(pool, "orphaned"),
        "scaling": said(condition(pool, "ScalingActive")) or None,
    }


def _problems(objects: Sequence[Body]) -> Iterator[dict[str, Any]]:
    for short in ("wpool", "pjob", "sjob"):
        for body in of_kind(objects, short):
            for name, why in _complaints(body):
                yield {
                    "object": str(reference_to(body)),
                    "namespace": namespace_of(body),
                    "problem": name,
                    "why": why,
                }


def _complaints(body: Body) -> Iterator[tuple[str, str]]:
    """What somebody should know of; a suspension that somebody has wished is none."""
    for name in ("Stalled", "Degraded", "Failed"):
        if holds(body, name):
            yield name, said(condition(body, name))
    if is_halted(body):
        yield "Suspended", said(condition(body, "Suspended"))
    for name in ("DatabaseReachable", "OnSchedule", "LastRunSucceeded"):
        if fails(body, name):
            yield f"not {name}", said(condition(body, name))
    if fails(body, "ScalingActive") and (spec_of(body).get("autoscaling") or {}).get("mode") != ScalingMode.OFF:
        yield "not ScalingActive", said(condition(body, "ScalingActive"))


def _next(periodic_jobs: Sequence[Body], now: datetime) -> list[dict[str, Any]]:
    ticks = [
        (tick, body)
        for body in periodic_jobs
        if not holds(body, "Suspended")
        for tick in next_times(body)
        if tick > now
    ]
    ticks.sort(key=lambda each: (each[0], namespace_of(each[1]), each[1]["metadata"]["name"]))
    return [
        {"at": shown(tick), "object": str(reference_to(body)), "namespace": namespace_of(body)}
        for tick, body in ticks[:SHOWN_MOST]
    ]
