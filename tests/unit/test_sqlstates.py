"""Every SQLSTATE of the table means what the design says, and each becomes a typed error that keeps the secrets."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pg_scheduler._domain.sqlstates import Fault, fault_of
from pg_scheduler._engine.service import BUSY_TOLD_AFTER, IMPAIRED_SECONDS, OUTAGE_PAUSES, Trouble
from pg_scheduler._store.driver_errors import NOTIFY_QUEUE_FULL, translated
from pg_scheduler.errors import (
    DatabaseBusy,
    DatabaseNotReady,
    DatabaseUnreachable,
    InvalidArgument,
    PgSchedulerError,
    SchemaMismatch,
    StorageFull,
)

if TYPE_CHECKING:
    from collections.abc import Callable

SECRET = "s3cret"  # noqa: S105 (of nothing)

LOST = "08000 08003 08006 08P01 57P01 57P02 57P03 57P04 57P05 25006 25P03"
BUSY = "40001 40P01 55P03 57014 53300 XX000"
IMPAIRED = "53100 53200 58000 58030 58P01 28000 28P01"
NOT_READY = "42P01 42703 42883 42501 3D000 26000 42P05"
CALLER = "22001 22003 22P02 23502 23505 23514 54000 54023"
OURS = "42601 0A000 P0001 53400 42P02"

TABLE = [
    *((state, Fault.LOST, DatabaseUnreachable) for state in LOST.split()),
    *((state, Fault.BUSY, DatabaseBusy) for state in BUSY.split()),
    *((state, Fault.IMPAIRED, DatabaseUnreachable) for state in IMPAIRED.split()),
    ("53100", Fault.IMPAIRED, StorageFull),
    *((state, Fault.NOT_READY, DatabaseNotReady) for state in NOT_READY.split()),
    *((state, Fault.NOT_READY, SchemaMismatch) for state in ("42P01", "42703", "42883")),
    *((state, Fault.CALLER, InvalidArgument) for state in CALLER.split()),
]


def server_error(sqlstate: str, **fields: str) -> asyncpg.PostgresError:
    """As the driver raises it, with the secret wherever the server could quote one."""
    quoted = {"S": "ERROR", "C": sqlstate, "M": f"bad value {SECRET}", "D": f"Failing row contains ({SECRET})"}
    error = asyncpg.PostgresError.new(quoted | fields, query=f"SELECT '{SECRET}'")
    assert isinstance(error, asyncpg.PostgresError)
    return error


def ours(error: BaseException) -> PgSchedulerError:
    with pytest.raises(PgSchedulerError) as caught, translated("host db, database shop, user app"):
        raise error
    return caught.value


@pytest.mark.parametrize(("sqlstate", "fault", "kind"), TABLE)
def test_sqlstate_becomes_its_fault_and_its_error(sqlstate: str, fault: Fault, kind: type[PgSchedulerError]) -> None:
    assert fault_of(sqlstate) is fault
    error = ours(server_error(sqlstate))

    assert isinstance(error, kind)
    assert error.what
    assert error.fix
    assert sqlstate in error.why if fault is Fault.CALLER else error.why == "host db, database shop, user app"
    assert SECRET not in str(error)
    if isinstance(error, DatabaseUnreachable | DatabaseNotReady):
        assert error.sqlstate == sqlstate


@pytest.mark.parametrize("sqlstate", OURS.split())
def test_a_mistake_of_ours_passes_as_it_is(sqlstate: str) -> None:
    raised = server_error(sqlstate)
    assert fault_of(sqlstate) is None

    with pytest.raises(asyncpg.PostgresError) as caught, translated("x"):
        raise raised

    assert caught.value is raised


@given(st.text(alphabet="0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ", min_size=5, max_size=5))
def test_every_sqlstate_has_one_meaning_or_none(sqlstate: str) -> None:
    assert fault_of(sqlstate) is None or isinstance(fault_of(sqlstate), Fault)


@pytest.mark.parametrize("error", [OSError(), TimeoutError(), ConnectionResetError()])
def test_no_answer_is_a_lost_connection(error: Exception) -> None:
    translated_error = ours(error)
    assert isinstance(translated_error, DatabaseUnreachable)
    assert fault_of(translated_error.sqlstate) is Fault.LOST


def test_a_refused_value_names_where_it_was_to_go() -> None:
    error = ours(server_error("23514", t="scheduled_jobs", n="scheduled_jobs_priority_is_known"))
    assert error.why == "SQLSTATE 23514 at scheduled_jobs.scheduled_jobs_priority_is_known"


def test_a_full_queue_of_notifications_is_told_from_other_limits() -> None:
    full = ours(server_error("54000", F="async.c"))
    assert isinstance(full, DatabaseBusy)
    assert full.sqlstate == NOTIFY_QUEUE_FULL
    assert not isinstance(ours(server_error("54000", F="nbtutils.c")), DatabaseUnreachable)


def trouble_pauses(error: DatabaseUnreachable, times: int) -> list[float]:
    trouble = Trouble("a service")
    return [trouble.seconds_after(error) for _ in range(times)]


@pytest.mark.parametrize(
    ("sqlstate", "longest"),
    [("57P01", OUTAGE_PAUSES[-1]), (None, OUTAGE_PAUSES[-1]), ("53100", IMPAIRED_SECONDS), ("40001", 1.0)],
)
def test_a_service_waits_longer_each_time_up_to_a_bound_and_never_in_step(sqlstate: str | None, longest: float) -> None:
    error = DatabaseUnreachable("x", sqlstate=sqlstate)
    first, second = trouble_pauses(error, 200), trouble_pauses(error, 200)

    assert first != second
    assert 0 < min(first) <= first[0] <= longest
    assert longest / 2 <= min(first[10:]) <= max(first[10:]) <= longest


@pytest.mark.parametrize(
    ("sqlstate", "level", "after"),
    [("57P01", "WARNING", 1), ("53100", "ERROR", 1), ("55P03", "WARNING", BUSY_TOLD_AFTER)],
)
def test_a_service_tells_once_and_once_more_when_it_is_over(
    caplog: pytest.LogCaptureFixture, sqlstate: str, level: str, after: int
) -> None:
    trouble = Trouble("claim loop")

    def told() -> list[str]:
        return [record.levelname for record in caplog.records]

    with caplog.at_level(logging.INFO):
        for _ in range(after - 1):
            trouble.seconds_after(DatabaseBusy("x", sqlstate=sqlstate))
        assert told() == []
        for _ in range(10):
            trouble.seconds_after(DatabaseBusy("x", sqlstate=sqlstate))
        assert told() == [level]
        trouble.end()
        trouble.end()
        assert told() == [level, "INFO"]


def test_contention_that_ends_soon_is_not_told(caplog: pytest.LogCaptureFixture) -> None:
    trouble = Trouble("claim loop")
    with caplog.at_level(logging.INFO):
        for act in [lambda: trouble.seconds_after(DatabaseBusy("x", sqlstate="40P01"))] * 3 + [trouble.end]:
            _do(act)
    assert caplog.records == []


def _do(act: Callable[[], object]) -> None:
    act()


def test_a_trouble_that_becomes_another_is_told_again(caplog: pytest.LogCaptureFixture) -> None:
    trouble = Trouble("claim loop")
    for sqlstate in ("57P01", "57P01", "28P01", "57P01", "28P01"):
        trouble.seconds_after(DatabaseUnreachable("x", sqlstate=sqlstate))
    assert [record.levelname for record in caplog.records] == ["WARNING", "ERROR"]
