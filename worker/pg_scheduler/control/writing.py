"""What a custom resource wants, as the store takes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pg_scheduler._domain import codec
from pg_scheduler._domain.options import METADATA_BYTES_MAX
from pg_scheduler._domain.schedules import ScheduleDefinition, ScheduleKey, Template
from pg_scheduler._store.pools import PoolKey
from pg_scheduler._store.sources import OwnedJob

if TYPE_CHECKING:
    from datetime import datetime

    from pg_scheduler.control.desired import DesiredJob, DesiredSchedule, Source
    from pg_scheduler.job_template import JobTemplate


def owned_job(desired: DesiredJob) -> OwnedJob:
    """The row of a ScheduledJob."""
    source = desired.source
    return OwnedJob(
        job_id=desired.job_id,
        template=_template(desired.template),
        run_at=desired.run_at,
        misfire_grace_time=desired.starting_deadline_seconds,
        suspended=desired.suspended,
        deletion=desired.deletion,
        digest=desired.digest,
        tenant=source.tenant,
        cluster=source.cluster,
        uid=source.uid,
        name=source.name,
        generation=source.generation,
    )


def schedule_definition(desired: DesiredSchedule) -> ScheduleDefinition:
    """The row of a PeriodicJob."""
    return ScheduleDefinition(
        key=schedule_key(desired.source),
        name=desired.source.name,
        generation=desired.source.generation,
        rule=desired.rule,
        template=_template(desired.template),
        bounds=desired.bounds,
        policy=desired.policy,
        history=desired.history,
        deletion=desired.deletion,
        suspended=desired.suspended,
        suspend_reason=desired.suspend_reason,
    )


def _template(template: JobTemplate) -> Template:
    policy, labels = template.retry_policy, template.labels
    return Template(
        task=template.task,
        job_name=template.task,
        payload=codec.encode_with_names(template.args, template.kwargs, template.args_from),
        queue=template.queue,
        priority=template.priority.db_value,
        max_retries=template.max_retries,
        timeout_seconds=template.timeout_seconds,
        retry_policy=None if policy is None else policy.to_json(),
        metadata=codec.encode_object(labels, "labels", METADATA_BYTES_MAX) if labels else None,
        concurrency_key=template.concurrency_key,
        concurrency_limit=template.concurrency_limit,
        keep_result=template.keep_result,
    )


def schedule_key(source: Source) -> ScheduleKey:
    """Whose schedule it is."""
    return ScheduleKey(tenant=source.tenant, kind=source.kind, cluster=source.cluster, uid=source.uid)


def pool_key(source: Source, made_at: datetime) -> PoolKey:
    """Whose queues and tasks they are; of two pools that were made at different times the older has its way."""
    return PoolKey(
        tenant=source.tenant,
        name=source.name,
        cluster=source.cluster,
        uid=source.uid,
        generation=source.generation,
        made_at=made_at,
    )
