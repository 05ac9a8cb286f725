"""The metrics of a worker in Prometheus' terms.

Invariants: a scrape reads what is in memory; every sample belongs to a metric of ``METRICS``, and labels are only those
of ``LABELS``, whose values come from fixed lists but for the tenant's name. Nothing of a job or a schedule is in them.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from pg_scheduler._engine.vitals import Vitals
from pg_scheduler._serving.ledger import LedgerReader

LABELS = ("tenant", "queue", "outcome", "status")


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """One metric; a counter's name ends in ``_total``."""

    name: str
    kind: Literal["counter", "gauge"]
    labels: tuple[str, ...]
    meaning: str

    def family(self, samples: Mapping[tuple[str, ...], float]) -> Metric:
        """The metric with these values, by the values of its labels."""
        make = CounterMetricFamily if self.kind == "counter" else GaugeMetricFamily
        family = make(self.name, self.meaning, labels=self.labels)
        for labels, value in samples.items():
            family.add_metric(labels, value)
        return family


TICKS = Definition(
    name="pgscheduler_schedule_ticks_total",
    kind="counter",
    labels=("tenant", "outcome"),
    meaning="Ticks of the tenant's schedules by what became of them; planned are all, failed are among those that ran.",
)
TICKS_OPEN = Definition(
    name="pgscheduler_schedule_ticks_open",
    kind="gauge",
    labels=("tenant",),
    meaning="Ticks whose job has not ended.",
)
TICKS_UNACCOUNTED = Definition(
    name="pgscheduler_schedule_ticks_unaccounted",
    kind="gauge",
    labels=("tenant",),
    meaning="Planned ticks that are neither open nor have an outcome; 0 unless jobs were deleted by hand.",
)
LEDGER_AGE = Definition(
    name="pgscheduler_schedule_ledger_age_seconds",
    kind="gauge",
    labels=("tenant",),
    meaning="How long ago the figures of schedules were read.",
)
SLOTS = Definition(
    name="pgscheduler_worker_slots",
    kind="gauge",
    labels=("tenant",),
    meaning="Jobs that this worker may run at a time.",
)
RUNNING = Definition(
    name="pgscheduler_worker_running_jobs",
    kind="gauge",
    labels=("tenant",),
    meaning="Jobs that this worker holds.",
)
LEASE = Definition(
    name="pgscheduler_worker_lease_seconds",
    kind="gauge",
    labels=("tenant",),
    meaning="How long this worker may start jobs without another beat; 0 while its lease is not held.",
)
STARTED = Definition(
    name="pgscheduler_worker_attempts_started_total",
    kind="counter",
    labels=("tenant",),
    meaning="Attempts that this worker has begun.",
)
ENDED = Definition(
    name="pgscheduler_worker_attempts_ended_total",
    kind="counter",
    labels=("tenant", "outcome"),
    meaning="Attempts of this worker whose outcome was written, or discarded since the job was no longer its own.",
)
TICKS_MADE = Definition(
    name="pgscheduler_worker_ticks_made_total",
    kind="counter",
    labels=("tenant",),
    meaning="Jobs that this worker has made of ticks.",
)
RESCUED = Definition(
    name="pgscheduler_worker_orphans_rescued_total",
    kind="counter",
    labels=("status",),
    meaning="Jobs of dead workers, of every tenant, that this worker has taken from them, by the status it gave them.",
)
CLOCK_AHEAD = Definition(
    name="pgscheduler_worker_clock_ahead_seconds",
    kind="gauge",
    labels=("tenant",),
    meaning="How far the database's clock is ahead of this worker's, negative if behind; jobs go by the database's.",
)
METRICS = (
    *(TICKS, TICKS_OPEN, TICKS_UNACCOUNTED, LEDGER_AGE),
    *(SLOTS, RUNNING, LEASE, STARTED, ENDED, TICKS_MADE, RESCUED, CLOCK_AHEAD),
)


class WorkerCollector(Collector):
    """Answers a scrape; empty until the worker has started, without the ledger's part until that was read."""

    def __init__(self, vitals: Callable[[], Vitals | None], ledger: Callable[[], LedgerReader | None]) -> None:
        self._vitals = vitals
        self._ledger = ledger

    def collect(self) -> Iterable[Metric]:
        """The metrics of this moment."""
        vitals, ledger = self._vitals(), self._ledger()
        if vitals is not None:
            yield from _of_worker(vitals)
            if ledger is not None:
                yield from _of_ledger(vitals.tenant, ledger)


def _of_worker(vitals: Vitals) -> Iterator[Metric]:
    tenant = vitals.tenant
    yield SLOTS.family({(tenant,): vitals.slots})
    yield RUNNING.family({(tenant,): vitals.running})
    yield LEASE.family({(tenant,): vitals.lease_seconds})
    yield STARTED.family({(tenant,): vitals.started})
    yield ENDED.family({(tenant, outcome): count for outcome, count in vitals.ended.items()})
    yield TICKS_MADE.family({(tenant,): vitals.ticks})
    if vitals.clock_ahead_seconds is not None:
        yield CLOCK_AHEAD.family({(tenant,): vitals.clock_ahead_seconds})
    yield RESCUED.family({(status.value,): count for status, count in vitals.rescued.items()})


def _of_ledger(tenant: str, ledger: LedgerReader) -> Iterator[Metric]:
    reading, age_seconds = ledger.reading, ledger.age_seconds
    if reading is None or age_seconds is None:
        return
    yield TICKS.family({(tenant, outcome): count for outcome, count in reading.ticks.items()})
    yield TICKS_OPEN.family({(tenant,): reading.ledger.open})
    yield TICKS_UNACCOUNTED.family({(tenant,): reading.ledger.unaccounted})
    yield LEDGER_AGE.family({(tenant,): age_seconds})
