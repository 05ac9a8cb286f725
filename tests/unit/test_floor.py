"""A floor hides nothing for longer than five seconds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from pg_scheduler._engine.floor import BELIEVED_SECONDS, MARGIN, Floor

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
START = datetime(2026, 1, 1, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@given(st.lists(st.floats(0, 3), min_size=1, max_size=60))
def test_every_five_seconds_a_claim_looks_at_everything_however_often_it_rises(pauses: list[float]) -> None:
    clock = Clock()
    floor = Floor(clock=clock)
    looked_at_everything = 0.0
    for pause in pauses:
        clock.now += pause
        looked_from = floor.at
        if looked_from is None:
            looked_at_everything = clock.now
        assert clock.now - looked_at_everything < BELIEVED_SECONDS
        now = START + timedelta(seconds=clock.now)
        floor.rise(now, now=now, looked_from=looked_from)


def test_it_lies_below_what_a_late_commit_may_bring() -> None:
    floor = Floor(clock=Clock())
    assert floor.at is None

    floor.rise(START, now=START, looked_from=None)

    assert floor.at == START - MARGIN


def test_it_lies_below_a_backlog() -> None:
    floor = Floor(clock=Clock())

    floor.rise(LONG_AGO, now=START, looked_from=None)

    assert floor.at is not None
    assert LONG_AGO - MARGIN < floor.at < LONG_AGO


def test_a_look_that_began_from_one_does_not_prolong_the_belief() -> None:
    clock = Clock()
    floor = Floor(clock=clock)
    floor.rise(START, now=START, looked_from=None)
    looked_from = floor.at
    clock.now = BELIEVED_SECONDS

    floor.rise(START, now=START, looked_from=looked_from)

    assert floor.at is None


def test_nothing_lies_below_the_beginning_of_time() -> None:
    floor = Floor(clock=Clock())

    floor.rise(datetime(1, 1, 2, tzinfo=UTC), now=START, looked_from=None)

    assert floor.at is None


def test_what_is_overdue_drops_it() -> None:
    floor = Floor(clock=Clock())
    floor.rise(START, now=START, looked_from=None)

    floor.drop()

    assert floor.at is None
