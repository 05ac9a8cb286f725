"""What the operator answers over HTTP.

Invariant: a database or an API server that is away makes an operator not ready and leaves it live: starting it anew
would not help.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from pg_scheduler.probe_server import ProbeServer
from pg_scheduler_operator.metrics import BUCKETS, DATABASE_UP, LEADER, LOOP_AGE, METRICS, WATCH_AGE
from pg_scheduler_operator.reconciler import Loop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from prometheus_client.core import Metric

    from pg_scheduler_operator.metrics import Definition, Distribution, Metrics

LOOP_LIMITS_SECONDS: Final = {
    Loop.CHANGES: 120.0,
    Loop.CROWD: 1800.0,
    Loop.DATABASE: 120.0,
    Loop.KINDS: 900.0,
    Loop.LEASE: 60.0,
    Loop.PRESENCE: 120.0,
    Loop.SWEEP: 900.0,
}
"""How long a loop's round may take: its pause, the longest back-off, and the time limits of what it asks for."""
WATCH_LIMIT_SECONDS: Final = 600.0
"""A stream has a bookmark twice a minute. Without the API server it has none, and no new process would help soon."""
TURN_LIMIT_SECONDS: Final = 600.0

STARTING: Final = "starting"
TABLES: Final = "tables"
LISTS: Final = "lists"
DATABASE: Final = "database"
API: Final = "api"


@dataclass(slots=True, kw_only=True)
class Health:
    """What is known of this process; the parts that know it write it.

    Attributes:
        stands_by: the Lease is another's.
        has_tables: the tables are those of this release.
        tables_lack: what they lack that somebody else is to bring; None where that is nothing, or not known.
        lists: the watches whose list is still to come; None before there are watches.
        api_answers: what a standby's last look at the Lease has found.
        longest_turn_seconds: asks how long the turn has taken so far that began first.
    """

    metrics: Metrics
    stands_by: bool = False
    has_tables: bool = False
    tables_lack: str | None = None
    lists: set[str] | None = None
    api_answers: bool = False
    longest_turn_seconds: Callable[[], float] = field(default=lambda: 0.0)


def why_not_live(health: Health) -> str | None:
    """What stands still, for which the process should be replaced; None while nothing does."""
    for (loop,), age in health.metrics.values(LOOP_AGE).items():
        if age > LOOP_LIMITS_SECONDS[Loop(loop)]:
            return loop
    for (stream,), age in health.metrics.values(WATCH_AGE).items():
        if age > WATCH_LIMIT_SECONDS:
            return f"the watch of {stream}"
    return "a turn" if health.longest_turn_seconds() > TURN_LIMIT_SECONDS else None


def why_not_ready(health: Health) -> str | None:
    """What is missing for serving, or for taking over; None when nothing is."""
    if dead := why_not_live(health):
        return dead
    if not health.metrics.values(DATABASE_UP).get(()):
        return DATABASE
    if health.tables_lack is not None:
        return health.tables_lack
    if health.stands_by:
        return None if health.api_answers else API
    return _why_not_serving(health)


def _why_not_serving(health: Health) -> str | None:
    if not health.metrics.values(LEADER).get(()):
        return STARTING
    if not health.has_tables:
        return TABLES
    return LISTS if health.lists is None or health.lists else None


class OperatorCollector(Collector):
    """Answers a scrape."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        """The metrics of this moment."""
        return (_family(metric, self._metrics) for metric in METRICS)


def _family(metric: Definition, metrics: Metrics) -> Metric:
    if metric.kind == "histogram":
        histogram = HistogramMetricFamily(metric.name, metric.meaning, labels=metric.labels)
        for labels, seen in metrics.distributions(metric).items():
            histogram.add_metric(labels, list(_cumulated(seen)), seen.total)
        return histogram
    make = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    family = make(metric.name, metric.meaning, labels=metric.labels)
    for labels, value in metrics.values(metric).items():
        family.add_metric(labels, value)
    return family


def _cumulated(seen: Distribution) -> Iterator[tuple[str, float]]:
    so_far = 0
    for bound, count in zip([*map(str, BUCKETS), "+Inf"], seen.counts, strict=True):
        so_far += count
        yield bound, so_far


class OperatorServer(ProbeServer):
    """Serves one operator."""

    def __init__(self, health: Health, host: str, port: int) -> None:
        super().__init__(
            host,
            port,
            why_not_live=partial(why_not_live, health),
            why_not_ready=partial(why_not_ready, health),
            collector=OperatorCollector(health.metrics),
        )
