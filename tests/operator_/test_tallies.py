from __future__ import annotations

from pg_scheduler.control import ScheduleCounts
from pg_scheduler_operator.gateway.tallies import Tallies
from support.operator_world import schedule_row

COUNTS = ScheduleCounts(ran=1, failed=0, skipped=0, missed=0, coalesced=0, succeeded_at=None, failed_at=None)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_schedule_is_counted_once_a_minute_and_told_its_counts_in_between() -> None:
    clock = Clock()
    tallies = Tallies(clock)
    assert set(tallies.due(["u1"])) == {"u1"}
    assert tallies.completed(schedule_row(counts=COUNTS)).counts == COUNTS
    assert tallies.renewed_in_seconds("u1") is None

    clock.now += 59
    assert set(tallies.due(["u1"])) == set()
    assert tallies.completed(schedule_row()).counts == COUNTS
    assert tallies.renewed_in_seconds("u1") == 1

    clock.now += 1
    assert set(tallies.due(["u1"])) == {"u1"}


def test_whoever_was_told_new_counts_need_not_come_again() -> None:
    clock = Clock()
    tallies = Tallies(clock)
    tallies.completed(schedule_row(counts=COUNTS))
    tallies.completed(schedule_row())
    tallies.completed(schedule_row(counts=COUNTS))
    clock.now += 5

    assert tallies.renewed_in_seconds("u1") is None


def test_a_schedule_that_is_gone_is_forgotten() -> None:
    tallies = Tallies(Clock())
    tallies.completed(schedule_row(counts=COUNTS))
    tallies.completed(schedule_row())

    tallies.forget("u1")

    assert set(tallies.due(["u1"])) == {"u1"}
    assert tallies.renewed_in_seconds("u1") is None
