"""A row of ``scheduler_schedules`` as a value, and a definition as its columns.

Invariant: what is written and read again is equal, so that an unchanged definition changes nothing.
"""

from collections.abc import Collection

from pg_scheduler import recurrence
from pg_scheduler._domain.policies import History, Policy
from pg_scheduler._domain.rules import Bounds, Cron, Interval, Rule
from pg_scheduler._domain.schedules import Grid, ScheduleDefinition, ScheduleKey, StoredSchedule, Template
from pg_scheduler._store.driver import Record
from pg_scheduler.errors import InvalidSchedule
from pg_scheduler.job_template import Deletion
from pg_scheduler.listing import ScheduleInfo


def stored_schedule(row: Record) -> StoredSchedule:
    """The row as a value; ``payload`` and what ends in ``_text`` is JSON as text, whatever codec a pool has.

    Raises:
        InvalidSchedule: a newer release, or a person, has written a rule that this release does not know.
    """
    return StoredSchedule(
        id=row["id"],
        definition=ScheduleDefinition(
            key=ScheduleKey(
                tenant=row["tenant"], kind=row["source_kind"], cluster=row["source_cluster"], uid=row["source_uid"]
            ),
            name=row["source_name"],
            generation=row["source_generation"],
            rule=_rule(row),
            template=_template(row),
            bounds=Bounds(
                jitter_seconds=row["jitter_seconds"],
                start_at=row["start_at"],
                end_at=row["end_at"],
                max_runs=row["max_runs"],
            ),
            policy=Policy(
                missed=row["missed"],
                max_catch_up=row["max_catch_up"],
                starting_deadline_seconds=row["starting_deadline_seconds"],
                overlap=row["overlap"],
                suspend_after_failures=row["suspend_after_failures"],
            ),
            history=_history(row),
            deletion=Deletion(row["deletion"]),
            enabled=row["enabled"],
            suspended=row["suspended"],
            suspend_reason=row["suspend_reason"] if row["suspended"] else "",
        ),
        anchor_at=row["anchor_at"],
        last_tick_at=row["last_tick_at"],
        next_tick_at=row["next_tick_at"],
        ticks=row["ticks"],
        last_run_tick_at=row["last_run_tick_at"],
        runs=row["runs"],
        retired=row["retired_at"] is not None,
        halted=row["halted_at"] is not None,
    )


def schedule_info(row: Record) -> ScheduleInfo:
    """A row of ``list_schedules`` as people see it; a rule that this release does not know is shown as such."""
    rule, zone, description = _told_rule(row)
    return ScheduleInfo(
        uid=row["source_uid"],
        name=row["source_name"],
        source=row["source_kind"],
        task=row["task"],
        queue=row["queue"],
        rule=rule,
        time_zone=zone,
        description=description,
        is_ticking=row["enabled"] and not row["suspended"] and row["halted_at"] is None,
        enabled=row["enabled"],
        suspended=row["suspended"],
        suspended_at=row["suspended_at"],
        suspended_by=row["suspended_by"],
        suspend_reason=row["suspend_reason"] if row["suspended"] else "",
        halted_reason=row["halted_reason"],
        retired_reason=row["retired_reason"],
        next_run_at=row["next_run_at"],
        last_run_at=row["last_run_at"],
        last_status=row["last_status"],
    )


def columns(definition: ScheduleDefinition, grid: Grid, time_zone_data: str) -> tuple[object, ...]:
    """The parameters of ``insert_schedule`` and ``update_schedule``, in their order."""
    template, bounds, policy, history = definition.template, definition.bounds, definition.policy, definition.history
    return (
        *key_columns(definition.key),
        definition.name,
        definition.generation,
        *_rule_columns(definition.rule, time_zone_data),
        bounds.jitter_seconds,
        bounds.start_at,
        bounds.end_at,
        bounds.max_runs,
        policy.missed,
        policy.max_catch_up,
        policy.starting_deadline_seconds,
        policy.overlap,
        policy.suspend_after_failures,
        grid.anchor_at,
        grid.last_tick_at,
        grid.next_tick_at,
        definition.enabled,
        definition.suspended,
        definition.suspend_reason,
        template.task,
        template.job_name,
        template.payload,
        template.queue,
        template.priority,
        template.max_retries,
        template.timeout_seconds,
        template.retry_policy,
        template.on_interrupt,
        template.tags,
        template.metadata,
        template.concurrency_key,
        template.concurrency_limit,
        template.keep_result,
        history.successful if history else None,
        history.failed if history else None,
        definition.deletion,
    )


def key_columns(key: ScheduleKey) -> tuple[str, str, str, str]:
    """The four columns that say whose row it is."""
    return (key.tenant, key.kind, key.cluster, key.uid)


def columns_of(keys: Collection[ScheduleKey]) -> tuple[list[str], ...]:
    """The four columns of many rows, each as a list."""
    tenants, kinds, clusters, uids = zip(*map(key_columns, keys), strict=True) if keys else ((),) * 4
    return list(tenants), list(kinds), list(clusters), list(uids)


def _rule_columns(rule: Rule, time_zone_data: str) -> tuple[object, ...]:
    if isinstance(rule, Interval):
        return (rule.every_seconds, rule.phase_seconds, None, "Etc/UTC", "0", "shift_forward", "first", None)
    return (
        None,
        0,
        list(rule.expressions),
        rule.time_zone,
        rule.seconds,
        rule.nonexistent,
        rule.ambiguous,
        time_zone_data,
    )


def _told_rule(row: Record) -> tuple[str, str, str]:
    try:
        rule = _rule(row)
    except InvalidSchedule as error:
        return "?", row["time_zone"], f"cannot be read by this release: {error.what}"
    return recurrence.shown(rule), row["time_zone"], recurrence.describe(rule)


def _rule(row: Record) -> Rule:
    if row["interval_seconds"] is not None:
        return Interval(row["interval_seconds"], row["phase_seconds"])
    return Cron(tuple(row["cron"]), row["time_zone"], row["seconds"], row["nonexistent"], row["ambiguous"])


def _history(row: Record) -> History | None:
    if row["successful_history_limit"] is None:
        return None
    return History(successful=row["successful_history_limit"], failed=row["failed_history_limit"])


def _template(row: Record) -> Template:
    return Template(
        task=row["task"],
        job_name=row["job_name"],
        payload=row["payload"],
        queue=row["queue"],
        priority=row["priority"],
        max_retries=row["max_retries"],
        timeout_seconds=row["timeout_seconds"],
        retry_policy=row["retry_text"],
        on_interrupt=row["on_interrupt"],
        tags=row["tags_text"],
        metadata=row["metadata_text"],
        concurrency_key=row["concurrency_key"],
        concurrency_limit=row["concurrency_limit"],
        keep_result=row["keep_result"],
    )
