"""A floor hides nothing for longer than five seconds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from pg_scheduler._engine.floor import BELIEVED_SECONDS, MARGIN, Floor

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
        if floor.at is None:
            looked_at_everything = clock.now
        assert clock.now - looked_at_everything < BELIEVED_SECONDS
        floor.rise(START + timedelta(seconds=clock.now))


def test_it_lies_below_what_a_late_commit_may_bring() -> None:
    floor = Floor(clock=Clock())
    assert floor.at is None

    floor.rise(START)

    assert floor.at == START - MARGIN


def test_what_is_overdue_drops_it() -> None:
    floor = Floor(clock=Clock())
    floor.rise(START)

    floor.drop()

    assert floor.at is None
