from datetime import timedelta
from typing import Any

import pytest

from pg_scheduler import JobPriority, JobStatus, PollingConfig, VacuumConfig, VacuumPolicy, VacuumTrigger, periodic
from pg_scheduler._engine.config import EngineConfig
from pg_scheduler.errors import InvalidArgument
from pg_scheduler.periodic import PeriodicJobConfig, PeriodicRegistry


def test_priorities_are_stored_as_the_older_package_stored_them() -> None:
    assert [priority.db_value for priority in JobPriority] == [1, 3, 5, 8]
    assert JobPriority.from_db_value(3) is JobPriority.HIGH
    assert JobPriority.from_db_value(4) is JobPriority.NORMAL
    assert str(JobPriority.NORMAL) == "normal"
    assert repr(JobPriority.NORMAL) == "<JobPriority.NORMAL: normal (db_value=5)>"


def test_final_statuses_are_those_that_nothing_follows() -> None:
    assert {status for status in JobStatus if status.is_final} == {
        JobStatus.COMPLETED,
        JobStatus.FAILED,
        JobStatus.CANCELLED,
        JobStatus.EXPIRED,
    }


@pytest.mark.parametrize(
    "settings",
    [{"min_interval": -1}, {"min_interval": 3.0}, {"backoff_multiplier": 0.5}, {"semaphore_full_interval": -0.1}],
)
def test_polling_refuses_a_pace_that_is_none(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="PollingConfig"):
        PollingConfig(**settings)  # type: ignore[arg-type]  # that is the point


def test_vacuum_policies_are_checked_and_defaulted() -> None:
    assert VacuumConfig().failed == VacuumPolicy.after_days(7)
    assert VacuumPolicy.keep_last(3) == VacuumPolicy(VacuumTrigger.COUNT_BASED, keep_count=3)
    with pytest.raises(ValueError, match="days"):
        VacuumPolicy(VacuumTrigger.TIME_BASED)
    with pytest.raises(ValueError, match="interval_minutes"):
        VacuumConfig(interval_minutes=0)


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"slots": 0}, "max_concurrent_jobs"),
        ({"slots": -1}, "max_concurrent_jobs"),
        ({"slots": 10**9}, "max_concurrent_jobs"),
        ({"slots": True}, "max_concurrent_jobs"),
        ({"claim_limit": 0}, "batch_claim_limit"),
        ({"lease_seconds": 0.5}, "lease_seconds"),
        ({"lease_seconds": float("nan")}, "lease_seconds"),
        ({"lease_seconds": "60"}, "lease_seconds"),
        ({"shutdown_seconds": -1}, "shutdown_timeout"),
        ({"misfire_grace_time": -1}, "misfire_grace_time"),
        ({"queues": ()}, "queues"),
        ({"queues": ("",)}, "queues"),
        ({"queues": "default"}, "queues"),
        ({"tenant": "a\x00"}, "tenant"),
    ],
)
def test_engine_settings_out_of_range_name_the_field(settings: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidArgument, match=field):
        EngineConfig(**settings)


async def nightly() -> None: ...


async def hourly() -> None: ...


def test_periodic_returns_the_function_unchanged_and_refuses_others() -> None:
    with pytest.raises(TypeError, match="Expected an async function"):
        periodic(every=timedelta(seconds=5))(lambda: None)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "Either"),
        ({"interval": timedelta(seconds=1), "cron": "* * * * *"}, "Either"),
        ({"interval": timedelta(seconds=1), "timezone": "Etc/UTC"}, "timezone"),
        ({"interval": timedelta(0)}, "interval"),
        ({"cron": "0 25 * * *"}, "hour"),
    ],
)
def test_periodic_refuses_rules_that_are_none(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        PeriodicJobConfig(nightly, **settings)


def test_periodic_derives_name_and_key() -> None:
    every_minute = PeriodicJobConfig(nightly, interval=timedelta(minutes=1))
    every_hour = PeriodicJobConfig(nightly, interval=timedelta(hours=1))

    assert every_minute.job_name == "periodic_nightly"
    assert every_minute.dedup_key is not None
    assert len(every_minute.dedup_key) == 16
    assert every_minute.dedup_key != every_hour.dedup_key
    assert every_minute.source_uid == every_hour.source_uid


def test_periodic_wants_keys_where_two_rules_share_a_function() -> None:
    registry = PeriodicRegistry()
    registry.add(PeriodicJobConfig(nightly, interval=timedelta(minutes=1)))

    with pytest.raises(InvalidArgument, match="dedup_key"):
        registry.add(PeriodicJobConfig(nightly, interval=timedelta(minutes=2)))


def test_periodic_refuses_one_key_for_two_functions() -> None:
    registry = PeriodicRegistry()
    registry.add(PeriodicJobConfig(nightly, interval=timedelta(minutes=1), dedup_key="k"))

    with pytest.raises(InvalidArgument, match="belongs to"):
        registry.add(PeriodicJobConfig(hourly, interval=timedelta(minutes=1), dedup_key="k"))
