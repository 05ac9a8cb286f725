"""No instant of the database is mapped to an earlier moment than its own."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pg_scheduler._engine.clock import SKEW_SECONDS, STEP_SECONDS, WINDOW_SECONDS, DatabaseClock, SkewWatch

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


@pytest.mark.parametrize("ahead", [0.0, 3600.0, -3600.0])
def test_how_far_the_clocks_are_apart_is_the_same_at_any_time(ahead: float) -> None:
    monotonic = Monotonic()
    clock = DatabaseClock(clock=monotonic, wall=lambda: EPOCH.timestamp() + monotonic.now - 1000 - ahead)
    assert clock.seconds_ahead is None

    clock.observe(EPOCH)
    for _ in range(3):
        assert clock.seconds_ahead == pytest.approx(ahead, abs=1e-3)
        monotonic.now += 4


def test_clocks_that_are_apart_are_told_of_once_until_they_agree(caplog: pytest.LogCaptureFixture) -> None:
    monotonic = Monotonic()
    ahead = 0.0
    clock = DatabaseClock(clock=monotonic, wall=lambda: EPOCH.timestamp() - ahead)
    watch = SkewWatch(clock)
    watch.look()
    clock.observe(EPOCH)

    for ahead in (0.0, SKEW_SECONDS - 0.1, 60.0, 61.0, 0.0, -7200.0, -7200.0):  # noqa: B007  the wall clock reads it
        watch.look()

    told = [(record.levelno, record.getMessage().partition(" of this machine")[0]) for record in caplog.records]
    assert told == [
        (logging.WARNING, "the database's clock is 60 s ahead"),
        (logging.WARNING, "the database's clock is 7200 s short"),
    ]
