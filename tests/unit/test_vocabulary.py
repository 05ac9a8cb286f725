import inspect
import re
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pg_scheduler import (
    ConflictResolution,
    JobPriority,
    JobSpec,
    JobStatus,
    PollingConfig,
    VacuumConfig,
    VacuumPolicy,
    VacuumTrigger,
    periodic,
    task,
)
from pg_scheduler._engine.config import EngineConfig
from pg_scheduler.errors import InvalidArgument
from pg_scheduler.job_spec import _UNSET
from pg_scheduler.periodic import PeriodicJobConfig, PeriodicRegistry

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


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


SEED_VALUES: list[tuple[object, object]] = [
    (
        {p.name: (p.value, p.db_value) for p in JobPriority},
        {"CRITICAL": ("critical", 1), "HIGH": ("high", 3), "NORMAL": ("normal", 5), "LOW": ("low", 8)},
    ),
    (JobPriority.from_db_value(-1), JobPriority.NORMAL),
    ({c.name: c.value for c in ConflictResolution}, {"RAISE": "raise", "IGNORE": "ignore", "REPLACE": "replace"}),
    (
        {t.name: t.value for t in VacuumTrigger},
        {"IMMEDIATE": "immediate", "TIME_BASED": "time_based", "COUNT_BASED": "count_based", "NEVER": "never"},
    ),
    (list(VacuumPolicy.__dataclass_fields__), ["trigger", "days", "keep_count"]),
    (VacuumPolicy.immediate(), VacuumPolicy(VacuumTrigger.IMMEDIATE, None, None)),
    (VacuumPolicy.after_days(2), VacuumPolicy(VacuumTrigger.TIME_BASED, 2, None)),
    (VacuumPolicy.keep_last(2), VacuumPolicy(VacuumTrigger.COUNT_BASED, None, 2)),
    (VacuumPolicy.never(), VacuumPolicy(VacuumTrigger.NEVER)),
    (
        asdict(PollingConfig()),
        {
            "min_interval": 0.05,
            "max_interval": 2.0,
            "backoff_multiplier": 1.5,
            "idle_start_interval": 0.5,
            "semaphore_full_interval": 1.0,
            "jitter": True,
        },
    ),
    (
        VacuumConfig(),
        VacuumConfig(
            VacuumPolicy.after_days(1),
            VacuumPolicy.after_days(7),
            VacuumPolicy.after_days(3),
            60,
            False,
            expired=VacuumPolicy.after_days(3),
        ),
    ),
    (
        list(JobSpec.__dataclass_fields__)[:8],
        ["func", "execution_time", "args", "kwargs", "priority", "max_retries", "job_id", "misfire_grace_time"],
    ),
    (JobSpec(nightly, NOON), JobSpec(nightly, NOON, (), {}, JobPriority.NORMAL, 0, None, _UNSET)),
    (
        list(PeriodicJobConfig.__dataclass_fields__)[:10],
        [
            "func",
            "interval",
            "cron",
            "timezone",
            "use_advisory_lock",
            "priority",
            "max_retries",
            "job_name",
            "dedup_key",
            "enabled",
        ],
    ),
    (
        PeriodicJobConfig(nightly, HOUR),
        PeriodicJobConfig(nightly, HOUR, None, None, False, JobPriority.NORMAL, 0, None, None, True),
    ),
    (periodic.PeriodicJobConfig, PeriodicJobConfig),
    (
        list(inspect.signature(periodic).parameters)[:9],
        [
            "every",
            "cron",
            "timezone",
            "use_advisory_lock",
            "priority",
            "max_retries",
            "job_name",
            "dedup_key",
            "enabled",
        ],
    ),
    (
        [p.default for p in inspect.signature(periodic).parameters.values()][:9],
        [None, None, None, False, JobPriority.NORMAL, 0, None, None, True],
    ),
]


@pytest.mark.parametrize(("ours", "seed"), SEED_VALUES)
def test_vocabulary_is_the_one_that_users_know(ours: object, seed: object) -> None:
    """Design page 3 §3.1, row by row."""
    assert ours == seed


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: VacuumPolicy("time_based"), "trigger"),  # type: ignore[arg-type]  # that is the point
        (lambda: VacuumPolicy.after_days(-1), "days"),
        (lambda: VacuumPolicy.after_days(1.5), "days"),  # type: ignore[arg-type]  # that is the point
        (lambda: VacuumPolicy.keep_last(True), "keep_count"),
        (lambda: VacuumPolicy(VacuumTrigger.COUNT_BASED), "keep_count"),
        (lambda: PollingConfig(min_interval=2, max_interval=1), "max_interval"),
        (lambda: PollingConfig(idle_start_interval=float("nan")), "idle_start_interval"),
        (lambda: PollingConfig(backoff_multiplier=0.99), "backoff_multiplier"),
    ],
)
def test_settings_that_are_none_are_value_errors(make: Callable[[], object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()


def test_a_dedup_key_is_sixteen_hex_digits_of_module_name_and_schedule() -> None:
    def key(**rule: Any) -> str:
        return str(PeriodicJobConfig(nightly, **rule).dedup_key)

    keys = [key(interval=HOUR), key(interval=2 * HOUR), key(cron="0 * * * *"), key(cron="0 0 * * *")]
    other = PeriodicJobConfig(hourly, interval=HOUR).dedup_key

    assert all(re.fullmatch("[0-9a-f]{16}", text) for text in [*keys, str(other)])
    assert len({*keys, other}) == 5
    assert key(interval=timedelta(minutes=60)) == keys[0] == "4d43bd8d74030762"


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
        ({"interval": timedelta(seconds=-5)}, "interval"),
        ({"interval": timedelta(milliseconds=500)}, "whole number"),
        ({"interval": 5}, "timedelta"),
        ({"cron": 5}, "cron is a int"),
        ({"cron": "0 0 30 2 *"}, "day-of-month"),
        ({"cron": "* * * * * *"}, "five fields"),
        ({"cron": "@daily", "timezone": "Mars/Phobos"}, "Invalid timezone 'Mars/Phobos'"),
        ({"cron": "@daily", "timezone": ""}, "Invalid timezone ''"),
        ({"interval": HOUR, "dedup_key": ""}, "dedup_key"),
        ({"interval": HOUR, "dedup_key": "k" * 201}, "dedup_key"),
        ({"interval": HOUR, "job_name": "a\x00"}, "job_name"),
        ({"interval": HOUR, "priority": 1}, "priority"),
        ({"interval": HOUR, "max_retries": -1}, "max_retries"),
        ({"interval": HOUR, "enabled": "no"}, "enabled"),
        ({"interval": HOUR, "use_advisory_lock": 1}, "use_advisory_lock"),
        ({"interval": HOUR, "queue": ""}, "queue"),
        ({"interval": HOUR, "timeout": 0}, "timeout"),
        ({"interval": HOUR, "retry_policy": 60}, "retry_policy"),
        ({"interval": HOUR, "on_interrupt": "stop"}, "on_interrupt"),
        ({"interval": HOUR, "tags": "word"}, "tags"),
        ({"interval": HOUR, "metadata": []}, "metadata"),
        ({"interval": HOUR, "args": (float("nan"),)}, "args"),
        ({"interval": HOUR, "kwargs": {"k": b""}}, "kwargs"),
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


def test_periodic_refuses_one_key_for_two_rules_of_one_function() -> None:
    registry = PeriodicRegistry()
    registry.add(PeriodicJobConfig(nightly, interval=timedelta(minutes=1), dedup_key="k"))

    with pytest.raises(InvalidArgument, match="two schedules under the key 'k'"):
        registry.add(PeriodicJobConfig(nightly, interval=timedelta(minutes=2), dedup_key="k"))


def test_periodic_takes_two_rules_of_one_function_with_keys() -> None:
    registry = PeriodicRegistry()
    for key in ("a", "b"):
        registry.add(PeriodicJobConfig(nightly, interval=timedelta(minutes=1), dedup_key=key))

    assert len({config.source_uid for config in registry.all().values()}) == 2


def test_periodic_takes_a_name_that_task_gives_above_it() -> None:
    async def report() -> None: ...

    config = PeriodicJobConfig(report, interval=HOUR)
    task(name="reports.daily")(report)

    assert (config.source_uid, config.template.task) == ("reports.daily", "reports.daily")


def test_periodic_without_parentheses_says_what_to_write() -> None:
    with pytest.raises(TypeError, match="needs a rule"):
        periodic(nightly)  # type: ignore[arg-type]  # that is the point


def test_periodic_refuses_one_key_for_two_functions() -> None:
    registry = PeriodicRegistry()
    registry.add(PeriodicJobConfig(nightly, interval=timedelta(minutes=1), dedup_key="k"))

    with pytest.raises(InvalidArgument, match="belongs to"):
        registry.add(PeriodicJobConfig(hourly, interval=timedelta(minutes=1), dedup_key="k"))
