"""The pace of a worker that nobody can wake, and of one that is woken too often."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pg_scheduler._domain.pace import idle_interval, until_due
from pg_scheduler._store.wakeups import CROWD, CROWD_SECONDS, Debounced, Polling
from pg_scheduler.polling import PollingConfig


@st.composite
def configs(draw: st.DrawFn) -> PollingConfig:
    seconds = st.floats(0, 1e6)
    shortest = draw(seconds)
    return PollingConfig(
        min_interval=shortest,
        max_interval=draw(st.floats(shortest, 2e6)),
        backoff_multiplier=draw(st.floats(1, 1e300)),
        idle_start_interval=draw(seconds),
        semaphore_full_interval=draw(seconds),
    )


@given(configs(), st.integers(0, 10**9))
def test_an_interval_stays_between_its_bounds_and_never_shrinks(config: PollingConfig, looks: int) -> None:
    seconds = idle_interval(config, looks)
    assert config.min_interval <= seconds <= config.max_interval
    assert seconds <= idle_interval(config, looks + 1)


def test_the_intervals_of_the_defaults() -> None:
    seconds = [idle_interval(PollingConfig(), looks) for looks in range(1, 7)]
    assert seconds == [0.5, 0.75, 1.125, 1.6875, 2.0, 2.0]


@pytest.mark.parametrize(("due_in", "seconds"), [(None, 2.0), (10.0, 2.0), (0.3, 0.3), (0.0, 0.05), (-9.0, 0.05)])
def test_a_due_time_cuts_the_interval(due_in: float | None, seconds: float) -> None:
    assert until_due(2.0, due_in, shortest=0.05) == seconds


def test_polling_config_rules_the_pace_where_nobody_wakes_the_worker() -> None:
    polling = Polling(PollingConfig(idle_start_interval=0.1, max_interval=9, semaphore_full_interval=3, jitter=False))
    assert [polling.pause(None, looks) for looks in (1, 2)] == [0.1, pytest.approx(0.15)]
    assert polling.pause_when_full() == 3


def test_jitter_spreads_the_pauses_below_the_interval() -> None:
    pauses = {Polling(PollingConfig()).pause(None, 99) for _ in range(100)}
    assert len(pauses) > 50
    assert 1.6 <= min(pauses) <= max(pauses) <= 2.0


async def test_a_lone_notification_rings_at_once() -> None:
    rings: list[int] = []
    debounced = Debounced(lambda: rings.append(1))
    debounced.hear()
    assert len(rings) == 1


async def test_a_chain_of_single_jobs_rings_for_each_at_once() -> None:
    rings: list[int] = []
    debounced = Debounced(lambda: rings.append(1))
    for n in range(CROWD - 1):
        debounced.hear()
        assert len(rings) == n + 1


async def test_a_crowd_rings_at_most_twenty_times_a_second_and_once_after_its_end() -> None:
    rings: list[float] = []
    loop = asyncio.get_running_loop()
    debounced = Debounced(lambda: rings.append(loop.time()))
    begun_at = loop.time()
    while loop.time() < begun_at + 20 * CROWD_SECONDS:
        for _ in range(100):
            debounced.hear()
        await asyncio.sleep(0.001)
    last_heard_at = loop.time()
    await asyncio.sleep(2 * CROWD_SECONDS)

    steady = [at for at in rings if at - begun_at > CROWD_SECONDS]
    assert len(rings) - len(steady) < CROWD
    assert 5 < len(steady) <= 20 + 1
    assert last_heard_at <= rings[-1] or last_heard_at - rings[-1] < CROWD_SECONDS
