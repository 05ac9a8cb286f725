"""What may stand in the way of a job, a schedule or a pool: one function a cause.

Each looks at the whole picture and answers a finding or nothing. ``LOOKS`` has them in the order in which causes hold a
job back: where several are found, the first is the answer.

Invariant: pure; a finding says only what objects and events say, and what they cannot know is not guessed: a queue that
was paused by hand is no object.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final

from pg_scheduler_operator.plugin.facts import (
    WAITING_STATES,
    condition,
    demand_of,
    fails,
    holds,
    instant_in,
    is_behind,
    is_halted,
    job_of,
    key_of,
    next_times,
    of_kind,
    queue_of,
    queue_rule,
    ready_replicas,
    reference_to,
    replicas_most,
    said,
    spec_of,
    state_of,
    status_of,
    task_of,
)
from pg_scheduler_operator.plugin.picture import Cause, Finding
from pg_scheduler_operator.plugin.ticks import shown
from pg_scheduler_operator.resources import OverlapPolicy
from pg_scheduler_operator.status import Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import timedelta

    from pg_scheduler_operator.plugin.facts import Body
    from pg_scheduler_operator.plugin.picture import Picture


def _ended(picture: Picture) -> Finding | None:
    end = condition(picture.body, "Finished")
    if end.get("status") != "True":
        return None
    again = f"kubectl pgscheduler rerun {picture.name}"
    at = status_of(picture.body).get("completionTime", "")
    return Finding(
        cause=Cause.ENDED, what=f"it has ended{at and f' at {at}'}: {_with_error(end, picture.body)}", fix=again
    )


def _with_error(end: Body, body: Body) -> str:
    error = (status_of(body).get("lastError") or {}).get("type")
    return f"{said(end)} ({error})" if error and end.get("reason") == "Failed" else said(end)


def _running(picture: Picture) -> Finding | None:
    if state_of(picture.body) != "Running":
        return None
    job = job_of(picture.body)
    by = f" on {job['worker']}" if job.get("worker") else ""
    return Finding(cause=Cause.RUNNING, what=f"it runs{by}, attempt {job.get('attempt', 1)}")


def _refused(picture: Picture) -> Finding | None:
    told = condition(picture.body, "Stalled")
    if told.get("status") != "True":
        return None
    goes_on = "; the last good schedule goes on" if picture.short == "pjob" else ""
    return Finding(cause=Cause.REFUSED, what=f"its spec was refused: {said(told)}{goes_on}", fix="correct the field")


def _operator_away(picture: Picture) -> Finding | None:
    lost = picture.lost_leader
    told = []
    if is_behind(picture.body):
        seen = status_of(picture.body).get("observedGeneration")
        answered = "none yet" if seen is None else f"generation {seen}"
        generation = picture.body["metadata"].get("generation")
        told.append(f"the operator has not answered generation {generation} of it, it has answered {answered}")
    if lost is not None:
        told.append(f"no operator lives: {lost.text}")
    if not told:
        return None
    look = "kubectl pgscheduler status; kubectl get pods -A -l app.kubernetes.io/component=operator"
    return Finding(cause=Cause.OPERATOR_AWAY, what="; ".join(told), fix=look)


def _database_unreachable(picture: Picture) -> Finding | None:
    pools = of_kind(picture.objects, "wpool")
    told = next((condition(pool, "DatabaseReachable") for pool in pools if fails(pool, "DatabaseReachable")), None)
    if told is None:
        return None
    return Finding(
        cause=Cause.DATABASE_UNREACHABLE,
        what=f"the operator cannot reach the database since {told.get('lastTransitionTime')}: {said(told)}",
        fix="look at PostgreSQL, its Service and network policies",
    )


def _periodic_job_missing(picture: Picture) -> Finding | None:
    """One that is gone since the job was accepted is not missed: its template was copied then."""
    if picture.work or holds(picture.body, "Ready"):
        return None
    name = spec_of(picture.body)["periodicJobRef"].get("name")
    return Finding(
        cause=Cause.PERIODIC_JOB_MISSING,
        what=f"it names the PeriodicJob {name}, which this namespace does not have",
        fix="apply that one, or delete this one",
    )


def _cancel_wanted(picture: Picture) -> Finding | None:
    if not spec_of(picture.body).get("cancel"):
        return None
    fix = f"it cannot be taken back; make a new one: kubectl pgscheduler rerun {picture.name}"
    return Finding(cause=Cause.CANCEL_WANTED, what="its spec wants it cancelled", fix=fix)


def _suspended(picture: Picture) -> Finding | None:
    spec = spec_of(picture.body)
    if not spec.get("suspend"):
        return None
    reason = spec.get("suspendReason")
    return Finding(
        cause=Cause.SUSPENDED,
        what="it is suspended by its spec" + (f": {reason}" if reason else ""),
        fix=f"kubectl pgscheduler resume {picture.name}",
    )


def _halted(picture: Picture) -> Finding | None:
    if not is_halted(picture.body):
        return None
    return Finding(
        cause=Cause.HALTED,
        what=f"its runs have failed too often: {said(condition(picture.body, 'Suspended'))}",
        fix=f"mend the task, then: kubectl pgscheduler resume {picture.name}",
    )


def _exhausted(picture: Picture) -> Finding | None:
    told = condition(picture.body, "Exhausted")
    if told.get("status") != "True":
        return None
    return Finding(
        cause=Cause.EXHAUSTED,
        what=f"it ticks no more: {said(told)}",
        fix="raise spec.maxRuns, or spec.schedule.endTime",
    )


def _not_due(picture: Picture) -> Finding | None:
    run_at = instant_in(spec_of(picture.body).get("runAt"))
    if run_at is None or run_at <= picture.now:
        return None
    what = f"it is due at {shown(run_at)}, {_after(run_at - picture.now)}"
    return Finding(cause=Cause.NOT_DUE, what=what, fix="change spec.runAt to run it earlier")


def _no_tick_due(picture: Picture) -> Finding | None:
    coming = [tick for tick in next_times(picture.body) if tick > picture.now]
    if not coming or state_of(picture.body) in WAITING_STATES or holds(picture.body, "Suspended"):
        return None
    return Finding(
        cause=Cause.NOT_DUE,
        what=f"its next tick is at {shown(coming[0])}, {_after(coming[0] - picture.now)}",
        fix=f"to run it now as well: kubectl pgscheduler trigger {picture.name}",
    )


def _after(time: timedelta) -> str:
    days, rest = divmod(int(time.total_seconds()), 86400)
    hours, rest = divmod(rest, 3600)
    minutes, seconds = divmod(rest, 60)
    sizes = [(days, "d"), (hours, "h"), (minutes, "m"), (seconds, "s")]
    told = [f"{size}{unit}" for size, unit in sizes if size][:2]
    return f"in {' '.join(told) or '0s'}"


def _retry_waits(picture: Picture) -> Finding | None:
    job = job_of(picture.body)
    if state_of(picture.body) != "Pending" or not job.get("attempt"):
        return None
    error = (job.get("lastError") or job.get("error") or {}).get("type")
    ended = f" with {error}" if error else ""
    what = f"attempt {job['attempt']} has ended{ended}, and the next one waits"
    return Finding(
        cause=Cause.RETRY_WAITS, what=what, fix="see the retry policy of the task, and the error in the workers' logs"
    )


def _run_goes_on(picture: Picture) -> Finding | None:
    policy = spec_of(picture.body).get("overlapPolicy", OverlapPolicy.SKIP)
    if policy not in _WHILE_ONE_RUNS or state_of(picture.body) != "Running":
        return None
    run = job_of(picture.body)
    return Finding(
        cause=Cause.RUN_GOES_ON,
        what=f"the run of {run.get('scheduledTime')} goes on: {_WHILE_ONE_RUNS[policy]}",
        fix="make the task faster, its timeoutSeconds shorter, or choose another overlapPolicy",
    )


_WHILE_ONE_RUNS: Final[Mapping[str, str]] = {
    OverlapPolicy.SKIP: "until it ends, ticks do not run (overlapPolicy Skip)",
    OverlapPolicy.QUEUE: "until it ends, one tick waits and others do not run (overlapPolicy Queue)",
}


def _key_full(picture: Picture) -> Finding | None:
    key = key_of(picture.work)
    if state_of(picture.body) != "Waiting" and (key is None or len(_holders(picture)) < key[1]):
        return None
    if key is None:
        return Finding(cause=Cause.KEY_FULL, what="it waits for its turn behind the job before it")
    holders = ", ".join(_holders(picture)) or "jobs without an object, such as those of the library"
    return Finding(
        cause=Cause.KEY_FULL,
        what=f"its concurrency key {key[0]!r} is full, {key[1]} at a time: held by {holders}",
        fix="wait for them, or raise the limit",
    )


def _holders(picture: Picture) -> list[str]:
    """Other objects that run under its key."""
    key = key_of(picture.work)
    if key is None:
        return []
    others = (each for each in picture.objects if reference_to(each) != reference_to(picture.body))
    return [
        str(reference_to(each))
        for each in others
        if state_of(each) == "Running" and (held := key_of(each)) and held[0] == key[0]
    ]


def _queue_paused(picture: Picture) -> Finding | None:
    queue = queue_of(picture.work)
    rule = queue_rule(picture.pools, queue)
    if rule is None or not rule[1].get("paused"):
        return None
    pool = reference_to(rule[0])
    return Finding(
        cause=Cause.QUEUE_PAUSED,
        what=f"its queue {queue} is paused by {pool}",
        fix=f"take paused out of spec.queues of {pool}",
    )


def _task_not_allowed(picture: Picture) -> Finding | None:
    task = task_of(picture.work)
    allowed: list[Sequence[str] | None] = [spec_of(pool).get("allowedTasks") for pool in picture.pools]
    if (
        not task
        or not allowed
        or any(globs is None or any(fnmatchcase(task, glob) for glob in globs) for globs in allowed)
    ):
        return None
    names = ", ".join(pool["metadata"]["name"] for pool in picture.pools)
    return Finding(
        cause=Cause.TASK_NOT_ALLOWED,
        what=f"the task {task} is none of spec.allowedTasks of {names}",
        fix="add it there",
    )


def _task_unknown(picture: Picture) -> Finding | None:
    """By the tasks that pools have seen in heartbeats; where none tells any, by the operator's event."""
    task = task_of(picture.work)
    tasks = [told for pool in picture.pools if (told := status_of(pool).get("tasks"))]
    if not task or any(task in told for told in tasks) or not (tasks or _was_told(picture, Reason.UNKNOWN_TASK)):
        return None
    return Finding(
        cause=Cause.TASK_UNKNOWN,
        what=f"no worker of this namespace knows the task {task}",
        fix="correct spec…task, or start workers whose code registers it",
    )


def _was_told(picture: Picture, reason: Reason) -> bool:
    return any(event.get("reason") == reason for event in picture.events)


def _no_workers(picture: Picture) -> Finding | None:
    """Without a pool nobody tells: workers may live without one."""
    pools = picture.pools
    if not pools or any(map(ready_replicas, pools)):
        return None
    told = "; ".join(
        f"{pool['metadata']['name']}: {said(condition(pool, 'ScalingActive')) or 'silent'}" for pool in pools
    )
    return Finding(
        cause=Cause.NO_WORKERS,
        what=f"no WorkerPool of this namespace has a ready worker ({told})",
        fix=f"kubectl pgscheduler explain {reference_to(pools[0])}; kubectl get pods",
    )


def _pools_at_maximum(picture: Picture) -> Finding | None:
    pools = picture.pools
    if not pools or not all(map(_is_full, pools)):
        return None
    told = ", ".join(
        f"{pool['metadata']['name']} at {status_of(pool)['replicas']} of {replicas_most(pool)} replicas,"
        f" {demand_of(pool, 'running')} running and {demand_of(pool, 'due')} due"
        for pool in pools
    )
    return Finding(cause=Cause.POOL_AT_MAXIMUM, what=f"every pool is at its maximum: {told}", fix="raise maxReplicas")


def _is_full(pool: Body) -> bool:
    """Whether it may not grow, and more is due than its free slots take."""
    most, status = replicas_most(pool), status_of(pool)
    if most is None or status.get("replicas", 0) < most:
        return False
    slots = status.get("slotsPerReplica", 1) * ready_replicas(pool)
    return demand_of(pool, "due") > 0 and demand_of(pool, "running") >= slots


def _own_pool_at_maximum(picture: Picture) -> Finding | None:
    pool = picture.body
    most = replicas_most(pool)
    if most is None or status_of(pool).get("replicas", 0) < most or demand_of(pool, "due") == 0:
        return None
    what = f"it is at its maximum, {most} replicas: {demand_of(pool, 'due')} due, {demand_of(pool, 'running')} running"
    return Finding(cause=Cause.POOL_AT_MAXIMUM, what=what, fix="raise spec.autoscaling.maxReplicas")


def _scaling_held(picture: Picture) -> Finding | None:
    told = condition(picture.body, "ScalingActive")
    if told.get("status") != "False":
        return None
    return Finding(cause=Cause.SCALING_HELD, what=f"replicas stay as they are: {said(told)}")


def _degraded(picture: Picture) -> Finding | None:
    told = condition(picture.body, "Degraded")
    return Finding(cause=Cause.DEGRADED, what=said(told)) if told.get("status") == "True" else None


def _pods_missing(picture: Picture) -> Finding | None:
    desired, ready = status_of(picture.body).get("desiredReplicas"), ready_replicas(picture.body)
    if desired is None or ready >= desired:
        return None
    target = (spec_of(picture.body).get("targetRef") or {}).get("name")
    return Finding(
        cause=Cause.NO_WORKERS,
        what=f"{ready} of {desired} workers are ready",
        fix=f"kubectl describe deployment/{target}; kubectl get pods",
    )


_FIRST: Final = (_refused, _operator_away, _database_unreachable)
_OF_WORKERS: Final = (
    _key_full,
    _queue_paused,
    _task_not_allowed,
    _task_unknown,
    _no_workers,
    _pools_at_maximum,
)
LOOKS: Final[Mapping[str, Sequence[Callable[[Picture], Finding | None]]]] = {
    "pjob": (*_FIRST, _suspended, _halted, _exhausted, _run_goes_on, _no_tick_due, _retry_waits, *_OF_WORKERS),
    "sjob": (
        _ended,
        _running,
        *_FIRST,
        _periodic_job_missing,
        _cancel_wanted,
        _suspended,
        _not_due,
        _retry_waits,
        *_OF_WORKERS,
    ),
    "wpool": (*_FIRST, _scaling_held, _degraded, _own_pool_at_maximum, _pods_missing),
}
