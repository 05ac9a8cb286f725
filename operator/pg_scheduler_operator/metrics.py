"""What the operator counts of itself, as plain numbers: a scrape reads them, and nothing here knows who scrapes.

Invariants: every number belongs to a definition of ``METRICS``; labels never hold anything of a job's spec. Where a
number is about one object, whoever sets it drops it when the object is gone.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Upper bounds in seconds of every histogram's buckets; what lies above is counted in the sum of all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """One metric; a counter's name ends in ``_total``. An ``age`` is a gauge of the seconds since it was marked."""

    name: str
    kind: Literal["counter", "gauge", "age", "histogram"]
    labels: tuple[str, ...] = ()
    meaning: str


LEADER: Final = Definition(
    name="pgscheduler_operator_leader",
    kind="gauge",
    meaning="1 while this operator serves, 0 while it stands by.",
)
RECONCILE_SECONDS: Final = Definition(
    name="pgscheduler_operator_reconcile_seconds",
    kind="histogram",
    labels=("kind",),
    meaning="How long a turn for one object took.",
)
RECONCILE_FAILURES: Final = Definition(
    name="pgscheduler_operator_reconcile_failures_total",
    kind="counter",
    labels=("kind",),
    meaning="Turns that failed and are done again.",
)
QUEUE_DEPTH: Final = Definition(
    name="pgscheduler_operator_queue_depth",
    kind="gauge",
    meaning="Objects that wait for a turn.",
)
STATUS_WRITES: Final = Definition(
    name="pgscheduler_operator_status_writes_total",
    kind="counter",
    labels=("kind",),
    meaning="Statuses written.",
)
STATUS_BACKLOG: Final = Definition(
    name="pgscheduler_operator_status_backlog",
    kind="gauge",
    meaning="Statuses that somebody may wait for and that the limit of writes holds back.",
)
STATUS_BACKLOG_AGE: Final = Definition(
    name="pgscheduler_operator_status_backlog_age_seconds",
    kind="gauge",
    meaning="How long the oldest of them has been held back; 0 without one.",
)
API_ERRORS: Final = Definition(
    name="pgscheduler_operator_api_errors_total",
    kind="counter",
    labels=("code",),
    meaning="Requests that the API server answered with an error, by HTTP status; none where there was no answer.",
)
WATCH_AGE: Final = Definition(
    name="pgscheduler_operator_watch_age_seconds",
    kind="age",
    labels=("stream",),
    meaning="How long ago a watch told of anything: an event, a bookmark, or the end of its list.",
)
LOOP_AGE: Final = Definition(
    name="pgscheduler_operator_loop_age_seconds",
    kind="age",
    labels=("loop",),
    meaning="How long ago a loop last came round, whether what it does succeeded or not.",
)
LOOP_FAILURES: Final = Definition(
    name="pgscheduler_operator_loop_failures_total",
    kind="counter",
    labels=("loop",),
    meaning="Rounds of a loop that failed.",
)
DATABASE_UP: Final = Definition(
    name="pgscheduler_operator_database_up",
    kind="gauge",
    meaning="1 while the database answers.",
)
SWEEP_AGE: Final = Definition(
    name="pgscheduler_operator_sweep_age_seconds",
    kind="age",
    meaning="How long ago rows and objects were last compared as a whole.",
)
SWEEP_HELD_ROWS: Final = Definition(
    name="pgscheduler_operator_sweep_held_rows",
    kind="gauge",
    meaning="Objects whose rows the sweep would withdraw and holds, for they are suspiciously many; else 0.",
)
SCALE_IN_HELD: Final = Definition(
    name="pgscheduler_operator_scale_in_held",
    kind="gauge",
    labels=("namespace", "pool"),
    meaning="1 while a pool should have fewer replicas and none is taken away, since its pods change or are not known.",
)
SCALE_IN_MARKED_PODS: Final = Definition(
    name="pgscheduler_operator_scale_in_marked_pods",
    kind="gauge",
    labels=("namespace", "pool"),
    meaning="Pods of a pool that are to go and take no new jobs.",
)
SCALE_IN_WRONG_VICTIMS: Final = Definition(
    name="pgscheduler_operator_scale_in_wrong_victim_total",
    kind="counter",
    labels=("namespace", "pool"),
    meaning="Pods that were deleted in the place of those that were to go.",
)
LATE_SECONDS: Final = Definition(
    name="pgscheduler_operator_late_seconds",
    kind="gauge",
    labels=("namespace", "pool"),
    meaning="How long ago the job was due that waits longest in the pool's namespace, but for paused queues and keys.",
)
UNROUTABLE_JOBS: Final = Definition(
    name="pgscheduler_operator_unroutable_jobs",
    kind="gauge",
    labels=("namespace", "pool"),
    meaning="Due jobs of the pool's namespace whose task no living worker knows, or whose queue none serves.",
)
CRDS_OUTDATED: Final = Definition(
    name="pgscheduler_operator_crds_outdated",
    kind="gauge",
    meaning="CRDs of the cluster that are older than this release.",
)

METRICS: Final = (
    *(LEADER, RECONCILE_SECONDS, RECONCILE_FAILURES, QUEUE_DEPTH, STATUS_WRITES, STATUS_BACKLOG, STATUS_BACKLOG_AGE),
    *(API_ERRORS, WATCH_AGE, LOOP_AGE, LOOP_FAILURES, DATABASE_UP, SWEEP_AGE, SWEEP_HELD_ROWS),
    *(SCALE_IN_HELD, SCALE_IN_MARKED_PODS, SCALE_IN_WRONG_VICTIMS, LATE_SECONDS, UNROUTABLE_JOBS, CRDS_OUTDATED),
)
"""All of them, in the order of the reference; a new one is added here."""


@dataclass(slots=True)
class Distribution:
    """How many observations were at most each bound of ``BUCKETS``, or above the last one, and their sum."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS) + 1))
    total: float = 0.0

    def add(self, value: float) -> None:
        """One more."""
        self.counts[bisect_left(BUCKETS, value)] += 1
        self.total += value


class Metrics:
    """The numbers of one operator, by definition and the values of its labels."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._values: dict[Definition, dict[tuple[str, ...], float]] = {}
        self._distributions: dict[Definition, dict[tuple[str, ...], Distribution]] = {}

    def count(self, metric: Definition, *labels: str, by: float = 1) -> None:
        """A counter goes up."""
        values = self._values.setdefault(metric, {})
        values[labels] = values.get(labels, 0) + by

    def set(self, metric: Definition, value: float, *labels: str) -> None:
        """A gauge is this now."""
        self._values.setdefault(metric, {})[labels] = value

    def mark(self, metric: Definition, *labels: str) -> None:
        """An age begins anew."""
        self.set(metric, self._clock(), *labels)

    def observe(self, metric: Definition, seconds: float, *labels: str) -> None:
        """One more observation of a histogram."""
        self._distributions.setdefault(metric, {}).setdefault(labels, Distribution()).add(seconds)

    def drop(self, metric: Definition, *labels: str) -> None:
        """What these labels name is gone."""
        self._values.get(metric, {}).pop(labels, None)

    def values(self, metric: Definition) -> Mapping[tuple[str, ...], float]:
        """The numbers as they are now, but for those of a histogram; of an age, the seconds."""
        values = self._values.get(metric, {})
        if metric.kind != "age":
            return dict(values)
        now = self._clock()
        return {labels: now - at for labels, at in values.items()}

    def distributions(self, metric: Definition) -> Mapping[tuple[str, ...], Distribution]:
        """What a histogram has seen."""
        return self._distributions.get(metric, {})
