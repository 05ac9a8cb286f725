"""What the operator answers over HTTP: ``/livez``, ``/readyz``, ``/metrics``.

Invariants: it runs in the operator's own event loop, so that an answer proves that the loop turns; no request leads to
another one, nor to a statement. A database or an API server that is away makes an operator not ready and leaves it
live: starting it anew would not help.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Self

from aiohttp import web
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from pg_scheduler.errors import CannotListen
from pg_scheduler_operator.metrics import BUCKETS, DATABASE_UP, LEADER, LOOP_AGE, METRICS, WATCH_AGE
from pg_scheduler_operator.reconciler import Loop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import TracebackType

    from prometheus_client.core import Metric

    from pg_scheduler_operator.metrics import Definition, Distribution, Metrics

CLOSE_SECONDS: Final = 0.5
LOOP_LIMITS_SECONDS: Final = {
    Loop.CHANGES: 120.0,
    Loop.CROWD: 1800.0,
    Loop.DATABASE: 120.0,
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

logger = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class Health:
    """What is known of this process; the parts that know it write it.

    Attributes:
        stands_by: the Lease is another's.
        has_tables: the tables are those of this release.
        lists: the watches whose list is still to come; None before there are watches.
        api_answers: what a standby's last look at the Lease has found.
        longest_turn_seconds: asks how long the turn has taken so far that began first.
    """

    metrics: Metrics
    stands_by: bool = False
    has_tables: bool = False
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
    metrics = health.metrics
    if dead := why_not_live(health):
        return dead
    if not metrics.values(DATABASE_UP).get(()):
        return DATABASE
    if health.stands_by:
        return None if health.api_answers else API
    if not metrics.values(LEADER).get(()):
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


class OperatorServer:
    """Serves one operator; a context manager that listens from its beginning to its end."""

    def __init__(self, health: Health, host: str, port: int) -> None:
        self._health = health
        self._host = host
        self._port = port
        self._registry = CollectorRegistry()
        self._registry.register(OperatorCollector(health.metrics))
        self._runner = web.AppRunner(self._app(), access_log=None, shutdown_timeout=CLOSE_SECONDS)

    async def __aenter__(self) -> Self:
        """Listen.

        Raises:
            CannotListen: the address is taken, or not this machine's.
        """
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._host, self._port).start()
        except OSError as error:
            await self._runner.cleanup()
            reason = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error.strerror)
            raise CannotListen(
                f"cannot listen on {_shown(self._host, self._port)}: {reason}",
                fix="give another address, or port 0 for any that is free",
            ) from error
        logger.info("probes and metrics at %s", ", ".join(f"http://{address}" for address in self.addresses))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._runner.cleanup()

    @property
    def addresses(self) -> list[str]:
        """Where it listens, as in URLs."""
        return [_shown(address[0], address[1]) for address in self._runner.addresses]

    def _app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/livez", self._livez)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._metrics)
        return app

    async def _livez(self, _: web.Request) -> web.Response:
        return _answer(why_not_live(self._health))

    async def _readyz(self, _: web.Request) -> web.Response:
        return _answer(why_not_ready(self._health))

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=generate_latest(self._registry), headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})


def _answer(reason: str | None) -> web.Response:
    return web.Response(text=f"{reason or 'ok'}\n", status=200 if reason is None else 503)


def _shown(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
