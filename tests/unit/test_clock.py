"""No instant of the database is mapped to an earlier moment than its own."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from pg_scheduler._engine.clock import STEP_SECONDS, WINDOW_SECONDS, DatabaseClock

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
"""The database's clock shows EPOCH when the monotonic clock shows 1000."""


class Monotonic:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def moment(clock: DatabaseClock, instant: datetime) -> float:
    at = clock.monotonic_of(instant)
    assert at is not None
    return at


@given(st.lists(st.tuples(st.floats(0, 5), st.floats(0, STEP_SECONDS / 2)), min_size=1, max_size=50))
def test_no_instant_is_mapped_before_its_own_moment_and_the_best_reply_counts(steps: list[tuple[float, float]]) -> None:
    monotonic = Monotonic()
    clock = DatabaseClock(clock=monotonic)
    replies: list[tuple[float, float]] = []
    for pause, latency in steps:
        monotonic.now += pause
        read_at = EPOCH + timedelta(seconds=monotonic.now - 1000)
        monotonic.now += latency
        clock.observe(read_at)
        replies.append((monotonic.now, latency))
    best = min(latency for at, latency in replies if at >= monotonic.now - WINDOW_SECONDS)

    lateness = moment(clock, EPOCH) - 1000.0

    assert -1e-5 <= lateness <= best + 1e-5


def test_a_clock_that_was_set_back_is_believed_at_once() -> None:
    monotonic = Monotonic()
    clock = DatabaseClock(clock=monotonic)
    clock.observe(EPOCH)
    clock.observe(EPOCH - timedelta(seconds=60))

    assert abs(moment(clock, EPOCH) - 1060) < 1e-3


def test_a_bound_is_forgotten_after_its_window() -> None:
    monotonic = Monotonic()
    clock = DatabaseClock(clock=monotonic)
    clock.observe(EPOCH)
    monotonic.now += WINDOW_SECONDS + 1
    clock.observe(EPOCH + timedelta(seconds=WINDOW_SECONDS + 0.9))

    assert abs(moment(clock, EPOCH) - 1000.1) < 1e-3


def test_nothing_is_mapped_before_the_database_has_spoken() -> None:
    clock = DatabaseClock(clock=Monotonic())

    assert clock.monotonic_of(EPOCH) is None
    assert not clock.has_passed(EPOCH)
    clock.observe(EPOCH)
    assert clock.has_passed(EPOCH)
    assert not clock.has_passed(EPOCH + timedelta(microseconds=1))
