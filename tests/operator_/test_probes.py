from __future__ import annotations

import re
from typing import TYPE_CHECKING

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from pg_scheduler.errors import CannotListen
from pg_scheduler_operator import metrics as definitions
from pg_scheduler_operator.metrics import (
    API_ERRORS,
    BUCKETS,
    DATABASE_UP,
    LEADER,
    LOOP_AGE,
    METRICS,
    RECONCILE_SECONDS,
    WATCH_AGE,
    Definition,
    Metrics,
)
from pg_scheduler_operator.probes import (
    LOOP_LIMITS_SECONDS,
    TURN_LIMIT_SECONDS,
    WATCH_LIMIT_SECONDS,
    Health,
    OperatorServer,
    why_not_live,
    why_not_ready,
)
from pg_scheduler_operator.reconciler import Loop
from support.operator_pages import METRICS_PAGE, metrics_table

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def serving(clock: Clock) -> Health:
    """A leader with nothing amiss."""
    health = Health(metrics=Metrics(clock), has_tables=True, lists=set())
    health.metrics.set(LEADER, 1)
    health.metrics.set(DATABASE_UP, 1)
    return health


def test_leader_with_tables_lists_and_a_database_is_live_and_ready(serving: Health) -> None:
    assert why_not_live(serving) is None
    assert why_not_ready(serving) is None


def test_leader_is_not_ready_without_database_tables_or_lists(serving: Health) -> None:
    serving.lists = {"scheduledjobs"}
    assert why_not_ready(serving) == "lists"
    serving.lists = None
    assert why_not_ready(serving) == "lists"
    serving.has_tables = False
    assert why_not_ready(serving) == "tables"
    serving.metrics.set(DATABASE_UP, 0)
    assert why_not_ready(serving) == "database"
    assert why_not_live(serving) is None


def test_standby_is_ready_while_database_and_api_server_answer(clock: Clock) -> None:
    health = Health(metrics=Metrics(clock), stands_by=True)
    health.metrics.set(LEADER, 0)
    assert why_not_ready(health) == "database"
    health.metrics.set(DATABASE_UP, 1)
    assert why_not_ready(health) == "api"
    health.api_answers = True
    assert why_not_ready(health) is None


def test_who_neither_leads_nor_stands_by_is_starting(clock: Clock) -> None:
    health = Health(metrics=Metrics(clock))
    health.metrics.set(DATABASE_UP, 1)

    assert why_not_ready(health) == "starting"


@pytest.mark.parametrize("loop", [loop for loop in Loop if loop is not Loop.FOLDER])
def test_loop_that_stands_still_is_not_live(serving: Health, clock: Clock, loop: Loop) -> None:
    serving.metrics.mark(LOOP_AGE, loop)
    clock.now += LOOP_LIMITS_SECONDS[loop]
    assert why_not_live(serving) is None

    clock.now += 1
    assert why_not_live(serving) == loop
    assert why_not_ready(serving) == loop


def test_watch_that_hangs_is_not_live(serving: Health, clock: Clock) -> None:
    serving.metrics.mark(WATCH_AGE, "billing/scheduledjobs")
    clock.now += WATCH_LIMIT_SECONDS + 1
    serving.metrics.mark(WATCH_AGE, "billing/periodicjobs")

    assert why_not_live(serving) == "the watch of billing/scheduledjobs"


def test_turn_that_hangs_is_not_live(serving: Health) -> None:
    serving.longest_turn_seconds = lambda: TURN_LIMIT_SECONDS + 1

    assert why_not_live(serving) == "a turn"


@pytest.fixture
async def address(serving: Health) -> AsyncIterator[str]:
    async with OperatorServer(serving, "127.0.0.1", 0) as server:
        yield f"http://{server.addresses[0]}"


async def get(url: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return response.status, await response.text()


async def test_pages_say_yes_or_the_one_reason(address: str, serving: Health) -> None:
    assert await get(f"{address}/livez") == (200, "ok\n")
    assert await get(f"{address}/readyz") == (200, "ok\n")
    serving.metrics.set(DATABASE_UP, 0)

    assert await get(f"{address}/livez") == (200, "ok\n")
    assert await get(f"{address}/readyz") == (503, "database\n")


async def test_scrape_gives_every_metric_as_prometheus_reads_it(address: str, serving: Health, clock: Clock) -> None:
    serving.metrics.count(API_ERRORS, "429", by=2)
    serving.metrics.mark(WATCH_AGE, "scheduledjobs")
    for seconds in (0.004, 0.02, 40):
        serving.metrics.observe(RECONCILE_SECONDS, seconds, "ScheduledJob")
    clock.now += 7

    status, text = await get(f"{address}/metrics")

    assert status == 200
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert families.keys() == {metric.name.removesuffix("_total") for metric in METRICS}
    samples = {(s.name, *s.labels.values()): s.value for family in families.values() for s in family.samples}
    assert samples["pgscheduler_operator_api_errors_total", "429"] == 2
    assert samples["pgscheduler_operator_watch_age_seconds", "scheduledjobs"] == 7
    bucket = "pgscheduler_operator_reconcile_seconds_bucket"
    assert [samples[bucket, "ScheduledJob", bound] for bound in ("0.005", "0.025", "30.0", "+Inf")] == [1, 2, 2, 3]
    assert samples["pgscheduler_operator_reconcile_seconds_count", "ScheduledJob"] == 3
    assert samples["pgscheduler_operator_reconcile_seconds_sum", "ScheduledJob"] == pytest.approx(40.024)


async def test_address_that_is_taken_is_named(address: str, serving: Health) -> None:
    port = int(address.rpartition(":")[2])

    with pytest.raises(CannotListen, match=rf"127\.0\.0\.1:{port}"):
        async with OperatorServer(serving, "127.0.0.1", port):
            pass


def test_every_definition_is_served_and_well_named() -> None:
    defined = {value for value in vars(definitions).values() if isinstance(value, Definition)}

    assert defined == set(METRICS)
    for metric in METRICS:
        assert re.fullmatch(r"pgscheduler_operator_[a-z_]+", metric.name)
        assert metric.name.endswith("_total") == (metric.kind == "counter")
        assert metric.name.endswith("_seconds") or metric.kind not in {"age", "histogram"}
    assert sorted(BUCKETS) == list(BUCKETS)


def test_reference_has_every_metric() -> None:
    assert metrics_table() in METRICS_PAGE.read_text(encoding="utf-8"), "run python -m support.operator_pages"
