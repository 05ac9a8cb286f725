from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pg_scheduler._domain.jobs import ClaimedJob
from pg_scheduler._domain.outcomes import (
    MAX_ERROR_CHARACTERS,
    Complete,
    Ending,
    ErrorRecord,
    Fail,
    GivenBack,
    Lost,
    Outcome,
    Raised,
    Release,
    ReportStopped,
    RetryIn,
    Returned,
    decide,
)

JOB = ClaimedJob(
    id=1,
    job_id="a",
    token=7,
    worker_id="w",
    task="t",
    payload="{}",
    queue="default",
    priority=5,
    execution_time=datetime(2026, 1, 1, tzinfo=UTC),
    attempt=1,
    retry_count=0,
    max_retries=0,
)
ERROR = ErrorRecord("KeyError", "'x'", "Traceback …")


@pytest.mark.parametrize(
    ("retry_count", "max_retries", "ending", "outcome"),
    [
        (0, 0, Returned(), Complete()),
        (0, 0, Raised(ERROR), Fail(ERROR)),
        (0, 1, Raised(ERROR), RetryIn(60, ERROR)),
        (1, 5, Raised(ERROR), RetryIn(120, ERROR)),
        (2, 5, Raised(ERROR), RetryIn(240, ERROR)),
        (3, 5, Raised(ERROR), RetryIn(300, ERROR)),
        (4, 5, Raised(ERROR), RetryIn(300, ERROR)),
        (5, 5, Raised(ERROR), Fail(ERROR)),
        (0, 5, Raised(ERROR, final=True), Fail(ERROR)),
        (0, 5, GivenBack(), Release()),
        (0, 5, Lost(), ReportStopped()),
    ],
)
def test_decide_follows_the_limits(retry_count: int, max_retries: int, ending: Ending, outcome: Outcome) -> None:
    assert decide(JOB._replace(retry_count=retry_count, max_retries=max_retries), ending) == outcome


@given(st.integers(0, 50), st.integers(0, 50))
def test_a_failure_is_retried_exactly_while_retries_are_left(used: int, allowed: int) -> None:
    outcome = decide(JOB._replace(retry_count=used, max_retries=allowed), Raised(ERROR))

    assert isinstance(outcome, RetryIn) == (used < allowed)


@given(st.text())
def test_an_error_record_holds_what_postgresql_can_store(text: str) -> None:
    record = ErrorRecord.of(ValueError(text))

    assert "\x00" not in record.message + record.traceback
    (record.message + record.traceback).encode()


def test_an_error_record_keeps_the_end_of_a_long_text() -> None:
    record = ErrorRecord.of(ValueError("x" * 100_000 + "the end"))

    assert record.type == "ValueError"
    assert len(record.message) <= MAX_ERROR_CHARACTERS + 2
    assert record.message.endswith("the end")


def test_an_error_that_cannot_say_what_it_is_is_recorded_all_the_same() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    record = ErrorRecord.of(Mute())

    assert record.type == "Mute"
    assert "RuntimeError" in record.message
