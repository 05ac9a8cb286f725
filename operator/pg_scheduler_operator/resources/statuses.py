"""What the operator answers: the status of each kind.

Invariant: no status holds a job's argument, or text of an error that the operator was not told to show.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from pg_scheduler_operator.resources.model import Instant, Json, Model


class Condition(Model):
    """One condition, as metav1.Condition."""

    type: str = Field(max_length=316, description="Name of the condition.")
    status: str = Field(max_length=7, pattern="^(True|False|Unknown)$", description="True, False or Unknown.")
    reason: str = Field(max_length=64, pattern="^[A-Za-z]+$", description="A word for machines.")
    message: str = Field(max_length=1024, description="A sentence for people; never a job's argument.")
    observed_generation: int | None = Field(
        default=None, ge=0, description="Generation of the spec that the condition speaks of."
    )
    last_transition_time: Instant = Field(description="When the status last changed.")


Conditions = Annotated[
    tuple[Condition, ...],
    Field(
        max_length=16,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    ),
]


class Status(Model):
    """What every kind's status begins with."""

    observed_generation: int | None = Field(default=None, ge=0, description="Generation of the spec last acted on.")
    conditions: Conditions = Field(default=(), description="What holds and why.")


class ErrorSummary(Model):
    """A failure; its text stays in the database, unless the operator is told to show how it begins."""

    type: str = Field(max_length=256, description="Type name of the last failure, such as KeyError.")
    code: str = Field(max_length=16, description="Where docs/reference/errors.md explains it, such as PGS-063.")
    time: Instant | None = Field(default=None, description="When it happened.")
    text: str | None = Field(
        default=None, max_length=256, description="How its text begins, only where the operator is told to show that."
    )


class ScheduledJobStatus(Status):
    """What the operator answers: Ready, Stalled, Suspended, Started, Complete, Failed, Finished."""

    job_id: str | None = Field(default=None, max_length=200, description="Id of the row.")
    state: str | None = Field(default=None, max_length=32, description="For display; logic uses conditions.")
    attempt: int | None = Field(default=None, ge=0, description="How often it was started.")
    worker: str | None = Field(default=None, max_length=256, description="Worker of the newest attempt.")
    start_time: Instant | None = Field(default=None, description="When it first started.")
    completion_time: Instant | None = Field(default=None, description="When it ended, whatever way.")
    result: Json = Field(
        default=None, description="What the task returned, with resultPolicy Status, of at most 4 KiB as JSON."
    )
    last_error: ErrorSummary | None = Field(default=None, description="The last failure.")


class LastRun(Model):
    """The newest tick's job that was not skipped."""

    job_id: str = Field(max_length=200, description="Id of the row.")
    scheduled_time: Instant | None = Field(default=None, description="The planned instant.")
    state: str = Field(max_length=32, description="For display; logic uses conditions.")
    attempt: int = Field(ge=0, description="How often it was started.")
    worker: str | None = Field(default=None, max_length=256, description="Worker of the newest attempt.")
    error: ErrorSummary | None = Field(default=None, description="The last failure.")


class Counts(Model):
    """What became of the ticks since the schedule was made."""

    planned: int = Field(ge=0, description="Ticks that were due, whatever became of them.")
    ran: int = Field(ge=0, description="Those whose run has ended by itself.")
    skipped: int = Field(ge=0, description="Those that did not run beside their predecessor, or while suspended.")
    missed: int = Field(ge=0, description="Those that no worker started in time.")
    coalesced: int = Field(ge=0, description="Those that one later run stood for.")
    failed: int = Field(ge=0, description="Those that ran and failed for good.")


class PeriodicJobStatus(Status):
    """What the operator answers: Ready, Stalled, Suspended, OnSchedule, LastRunSucceeded, Exhausted."""

    schedule: str | None = Field(default=None, max_length=512, description="The rule in a few words.")
    last_schedule_time: Instant | None = Field(default=None, description="Planned instant of the newest tick.")
    last_successful_time: Instant | None = Field(default=None, description="When a run last ended in success.")
    last_failure_time: Instant | None = Field(default=None, description="When a run last failed for good.")
    next_schedule_times: tuple[Annotated[str, Field(max_length=40)], ...] = Field(
        default=(), max_length=5, description="The next planned instants, with the zone's offset."
    )
    last_run: LastRun | None = Field(
        default=None, description="The newest tick's job; a tick that did not run beside its predecessor has none."
    )
    counts: Counts | None = Field(
        default=None, description="What became of the ticks since the schedule was made, written once a minute at most."
    )
    time_zone_data_version: str | None = Field(
        default=None, max_length=32, description="Version of the time zone data that has planned the next tick of cron."
    )


class DemandStatus(Model):
    """What the namespace's jobs ask of its workers."""

    due: int = Field(ge=0, description="Pending, not suspended, due; of paused queues too.")
    running: int = Field(ge=0, description="Held by living workers.")
    orphaned: int = Field(ge=0, description="Held by workers that are dead or late.")
    upcoming: int = Field(ge=0, description="Due by the time that a new worker would take to start.")


class WorkerPoolStatus(Status):
    """What the operator answers: Ready, Stalled, ScalingActive, DatabaseReachable, SchemaCurrent, Degraded."""

    replicas: int | None = Field(default=None, ge=0, description="Replicas that the target has.")
    ready_replicas: int | None = Field(default=None, ge=0, description="Replicas whose pods are ready.")
    desired_replicas: int | None = Field(default=None, ge=0, description="Replicas that there should be.")
    selector: str | None = Field(default=None, max_length=4096, description="Which pods are the target's; for HPAs.")
    slots_per_replica: int | None = Field(default=None, ge=1, description="Slots that heartbeats report.")
    lead_seconds: int | None = Field(default=None, ge=0, description="How far ahead jobs and ticks are load already.")
    schema_version: int | None = Field(default=None, ge=0, description="Newest migration of the database.")
    demand: DemandStatus | None = Field(default=None, description="Jobs counted, at most once a minute.")
    tasks: tuple[Annotated[str, Field(max_length=253)], ...] = Field(
        default=(), max_length=500, description="Tasks that the pool's workers have registered, now or before."
    )
