"""How the replicas of a pool follow its load, and how a worker leaves."""

from __future__ import annotations

from enum import StrEnum

from pydantic import ConfigDict, Field, model_validator

from pg_scheduler_operator.resources.model import Model, cel, rules

REPLICAS_MAX = 10_000
_A_DAY = 86_400


class ScalingMode(StrEnum):
    """Who decides how many replicas a target has."""

    OPERATOR = "Operator"
    EXTERNAL = "External"
    OFF = "Off"


class LookaheadMode(StrEnum):
    """Whether jobs count that will soon be due."""

    AUTO = "Auto"
    OFF = "Off"


class DeletionCost(StrEnum):
    """Whether the operator tells the ReplicaSet which pods to delete."""

    AUTO = "Auto"
    OFF = "Off"


class Lookahead(Model):
    """How far ahead jobs and ticks are load already."""

    mode: LookaheadMode = Field(
        default=LookaheadMode.AUTO,
        description="Auto: as far as the newest workers took from the making of their pod to their first heartbeat."
        " 'Off' (in quotes): only what is due counts, and a namespace with schedules keeps one replica to make jobs of"
        " them.",
    )
    max_seconds: int = Field(
        default=300, ge=1, le=3600, description="Never further, however long a worker takes to start."
    )


class ScaleUp(Model):
    """The pace upwards; the first step is taken at once."""

    max_replicas_per_minute: int = Field(
        default=20, ge=1, le=REPLICAS_MAX, description="At most so many more replicas within any minute."
    )


class ScaleDown(Model):
    """The pace downwards."""

    stabilization_seconds: int = Field(
        default=120, ge=0, le=3600, description="Replicas follow the greatest need of so many seconds."
    )
    max_replicas_per_minute: int = Field(
        default=5, ge=1, le=REPLICAS_MAX, description="At most so many fewer replicas within any minute."
    )
    zero_after_idle_seconds: int = Field(
        default=300, ge=0, le=_A_DAY, description="The last replica goes when nothing was needed for so long."
    )


class Drain(Model):
    """How a worker is let go when the pool shrinks."""

    timeout_seconds: int = Field(
        default=300,
        ge=1,
        le=_A_DAY,
        description="How long a worker that is to go may finish its jobs, taking no new ones. Give its pod a"
        " terminationGracePeriodSeconds of at least this.",
    )
    deletion_cost: DeletionCost = Field(
        default=DeletionCost.AUTO,
        description="Auto: pods that are to go are marked by controller.kubernetes.io/pod-deletion-cost. 'Off' (in"
        " quotes): they are not, for clusters where somebody else does it; the ReplicaSet may then delete a busy one.",
    )


class Autoscaling(Model):
    """How the number of replicas follows the load."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            cel("self.mode == 'Off' || has(self.maxReplicas)", "maxReplicas is required unless mode is Off"),
            cel(
                "!has(self.maxReplicas) || !has(self.minReplicas) || self.minReplicas <= self.maxReplicas",
                "minReplicas must not be above maxReplicas",
            ),
        )
    )

    mode: ScalingMode = Field(
        default=ScalingMode.OPERATOR,
        description="Operator: replicas follow due, running, orphaned and soon due jobs. External: another autoscaler"
        " scales the WorkerPool through /scale, and the operator carries it out. 'Off' (in quotes: YAML reads a bare"
        " Off as false): people do, by spec.replicas.",
    )
    min_replicas: int = Field(default=0, ge=0, le=REPLICAS_MAX, description="Never fewer.")
    max_replicas: int | None = Field(
        default=None, ge=1, le=REPLICAS_MAX, description="Never more; required unless mode is Off."
    )
    target_utilization_percent: int = Field(
        default=80, ge=1, le=100, description="How many of a hundred slots should be needed."
    )
    lookahead: Lookahead = Field(
        default_factory=Lookahead, description="How far ahead jobs and ticks are load already."
    )
    orphan_weight: int = Field(
        default=1, ge=0, le=10, description="How many slots a job counts for that waits for its rescue."
    )
    scale_up: ScaleUp = Field(default_factory=ScaleUp, description="The pace upwards.")
    scale_down: ScaleDown = Field(default_factory=ScaleDown, description="The pace downwards.")

    @model_validator(mode="after")
    def _bounded(self) -> Autoscaling:
        if self.mode is not ScalingMode.OFF and self.max_replicas is None:
            raise ValueError("maxReplicas is required unless mode is Off")
        if self.max_replicas is not None and self.min_replicas > self.max_replicas:
            raise ValueError("minReplicas must not be above maxReplicas")
        return self

    def within(self, replicas: int) -> int:
        """The nearest number that its bounds allow."""
        most = REPLICAS_MAX if self.max_replicas is None else self.max_replicas
        return min(max(replicas, self.min_replicas), most)
