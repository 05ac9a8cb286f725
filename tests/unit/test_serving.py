"""What probes answer, how the ledger's counters go on, and what a scrape may hold."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from pg_scheduler._domain import outcomes
from pg_scheduler._engine.vitals import Vitals
from pg_scheduler._serving.ledger import COUNTED, INTERVAL_SECONDS, LedgerReader, reading_after
from pg_scheduler._serving.metrics import LABELS, METRICS, WorkerCollector
from pg_scheduler._serving.probes import why_not_live, why_not_ready
from pg_scheduler.errors import DatabaseBusy, SchemaMismatch
from pg_scheduler.job_status import JobStatus
from pg_scheduler.listing import ScheduleLedger

if TYPE_CHECKING:
    from collections.abc import Sequence

HEALTHY = Vitals(
    tenant="shop",
    dead_part=None,
    is_stopping=False,
    lease_seconds=12.5,
    slots=25,
    running=3,
    started=7,
    ended=dict.fromkeys((*outcomes.WORDS.values(), outcomes.DISCARDED), 1),
    ticks=4,
    rescued={JobStatus.PENDING: 2, JobStatus.FAILED: 1},
    clock_ahead_seconds=-0.25,
)
EMPTY = ScheduleLedger(
    planned=0,
    open=0,
    ran=0,
    failed=0,
    coalesced=0,
    skipped_overlap=0,
    skipped_suspended=0,
    missed=0,
    cancelled=0,
    unrecorded=0,
    unaccounted=0,
)
counts = st.lists(st.integers(0, 10**12), min_size=1, max_size=8)


class Ledgers:
    """A store that gives one ledger, or error, after the other."""

    def __init__(self, *answers: ScheduleLedger | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    async def totals(self, tenant: str) -> ScheduleLedger:
        self.asked.append(tenant)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def reader_of(*answers: ScheduleLedger | Exception, now: Sequence[float] = (0.0,)) -> LedgerReader:
    times = iter(now)
    return LedgerReader(Ledgers(*answers), tenant="shop", clock=lambda: next(times))  # type: ignore[arg-type]  # has what it needs


def served(vitals: Vitals | None, reader: LedgerReader | None = None) -> str:
    registry = CollectorRegistry()
    registry.register(WorkerCollector(lambda: vitals, lambda: reader))
    return generate_latest(registry).decode()


@pytest.mark.parametrize(
    ("vitals", "live", "ready"),
    [
        (None, None, "starting"),
        (HEALTHY, None, None),
        (replace(HEALTHY, lease_seconds=0.0), None, "lease"),
        (replace(HEALTHY, is_stopping=True), None, "stopping"),
        (replace(HEALTHY, is_stopping=True, lease_seconds=0.0), None, "stopping"),
        (replace(HEALTHY, dead_part="ticker"), "dead", "dead"),
        (replace(HEALTHY, dead_part="ticker", is_stopping=True), "dead", "dead"),
    ],
)
def test_probes_say_what_is_wrong(vitals: Vitals | None, live: str | None, ready: str | None) -> None:
    assert (why_not_live(vitals), why_not_ready(vitals)) == (live, ready)


@given(counts)
def test_counters_of_the_ledger_never_fall(missed: list[int]) -> None:
    reading, seen = None, []
    for count in missed:
        reading = reading_after(reading, replace(EMPTY, missed=count), read_at=0.0)
        seen.append(reading.ticks["missed"])

    assert seen == sorted(seen)
    assert seen[-1] - seen[0] == sum(max(0, after - before) for before, after in pairwise(missed))


@given(counts.map(sorted), st.sampled_from(COUNTED))
def test_counters_of_a_ledger_that_only_grows_are_the_ledger(grown: list[int], outcome: str) -> None:
    reading = None
    for count in grown:
        reading = reading_after(reading, replace(EMPTY, **{outcome: count}), read_at=0.0)
        assert reading.ticks == dict.fromkeys(COUNTED, 0) | {outcome: count}


async def test_each_reading_takes_the_place_of_the_one_before() -> None:
    reader = reader_of(replace(EMPTY, open=5, ran=1), replace(EMPTY, open=6, ran=3), now=(100.0, 160.0, 163.0))

    await reader.run_once()
    await reader.run_once()

    assert reader.reading is not None
    assert (reader.reading.ledger.open, reader.reading.ticks["ran"], reader.age_seconds) == (6, 3, 3.0)


async def test_reading_stays_and_grows_old_while_the_database_is_busy(caplog: pytest.LogCaptureFixture) -> None:
    reader = reader_of(replace(EMPTY, open=5), DatabaseBusy("busy"), SchemaMismatch("gone"), now=(100.0, 190.0))

    with caplog.at_level(logging.WARNING, "pg_scheduler.serving"):
        for _ in range(3):
            await reader.run_once()

    assert reader.reading is not None
    assert reader.reading.ledger.open == 5
    assert reader.age_seconds == 90.0
    assert [record.getMessage() for record in caplog.records] == ["the ledger's metrics grow old: busy"]


async def test_ledger_is_read_at_most_once_a_minute_also_where_it_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 2:
            raise asyncio.CancelledError

    monkeypatch.setattr("pg_scheduler._serving.ledger.asyncio.sleep", sleep)
    store = Ledgers(DatabaseBusy("busy"), EMPTY)
    reader = LedgerReader(store, tenant="shop")  # type: ignore[arg-type]  # has what it needs

    with pytest.raises(asyncio.CancelledError):
        await reader.run()

    assert store.asked == ["shop", "shop"]
    assert min(slept) >= INTERVAL_SECONDS


def test_scrape_is_empty_before_the_worker_has_started() -> None:
    assert served(None, reader_of()) == ""


def test_scrape_before_the_first_reading_has_no_figures_of_schedules() -> None:
    assert "pgscheduler_schedule" not in served(HEALTHY, reader_of())
    assert "pgscheduler_worker_slots" in served(HEALTHY, reader_of())


async def test_scrape_holds_every_metric_as_it_is_defined_and_no_other() -> None:
    reader = reader_of(EMPTY, now=(0.0, 1.0))
    await reader.run_once()

    families = list(text_string_to_metric_families(served(HEALTHY, reader)))

    seen = {family.samples[0].name: (family.type, set(family.samples[0].labels)) for family in families}
    assert seen == {metric.name: (metric.kind, set(metric.labels)) for metric in METRICS}


def test_definitions_follow_the_conventions() -> None:
    assert all(metric.name.startswith("pgscheduler_") for metric in METRICS)
    assert all(metric.name.endswith("_total") == (metric.kind == "counter") for metric in METRICS)
    assert all(set(metric.labels) <= set(LABELS) for metric in METRICS)
    assert all(metric.meaning.endswith(".") for metric in METRICS)


@given(st.text(max_size=40))
def test_tenant_of_any_name_is_a_label_and_no_more(tenant: str) -> None:
    tenant = tenant.encode(errors="replace").decode()

    families = list(text_string_to_metric_families(served(replace(HEALTHY, tenant=tenant))))

    slots = next(family for family in families if family.name == "pgscheduler_worker_slots")
    assert [sample.labels for sample in slots.samples] == [{"tenant": tenant}]
