"""What a worker believes of its own lease."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pg_scheduler._engine import heartbeat
from pg_scheduler._engine.lease import Lease

if TYPE_CHECKING:
    import pytest

LEASE = 30.0
BEFORE, AFTER = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)


class Worker:
    """A lease with a clock to set."""

    def __init__(self) -> None:
        self.now = 0.0
        self.lease = Lease(LEASE, clock=lambda: self.now)
        self.lease.begin("me", 0.0, BEFORE)

    def beat(self, *, at: float, server_started_at: datetime = BEFORE) -> None:
        self.now = at
        self.lease.acknowledge(at, server_started_at)

    @property
    def seen(self) -> tuple[bool, bool]:
        return self.lease.is_valid, self.lease.held_for_one_full_lease


def test_a_healthy_worker_takes_jobs_and_after_one_lease_sweeps() -> None:
    worker = Worker()
    before = worker.seen
    for at in (10, 20, 30):
        worker.beat(at=at)

    assert (before, worker.seen) == ((True, False), (True, True))


def test_an_unsure_worker_takes_nothing_until_a_beat_is_answered() -> None:
    worker = Worker()
    worker.beat(at=40)
    worker.lease.miss()
    unsure = worker.seen
    worker.beat(at=41)

    assert (unsure, worker.seen) == ((False, False), (True, False))


def test_a_dead_worker_takes_nothing_until_it_lives_under_another_name() -> None:
    worker = Worker()
    worker.lease.lose()
    dead = worker.seen
    worker.lease.begin("me again", 1.0, BEFORE)

    assert (dead, worker.seen) == ((False, False), (True, False))


def test_a_sweeper_begins_to_count_anew_when_the_server_has_started_anew() -> None:
    worker = Worker()
    for at in (10, 20, 30):
        worker.beat(at=at)
    worker.beat(at=40, server_started_at=AFTER)
    after_restart = worker.seen
    for at in (50, 60, 70):
        worker.beat(at=at, server_started_at=AFTER)

    assert (after_restart, worker.seen) == ((True, False), (True, True))
    assert worker.lease.server_started_at == AFTER


def test_a_beat_without_answer_for_a_whole_lease_forbids_to_sweep() -> None:
    worker = Worker()
    worker.beat(at=30)
    worker.now = 60

    assert worker.seen == (False, False)


def test_a_lost_connection_is_tried_at_most_a_second_apart_for_eight_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(heartbeat, "boot_seconds", lambda: now)
    pauses = []
    for pause in heartbeat._reconnect_pauses():
        now += pause
        pauses.append(pause)
        if now > 60:
            break

    eager = [pause for pause, until in zip(pauses, _sums(pauses), strict=True) if until <= 8]
    assert eager[0] == 0
    assert max(eager) <= 1
    assert sum(eager) > 7
    assert all(1 <= pause <= 2 for pause in pauses[len(eager) + 2 :])


def _sums(pauses: list[float]) -> list[float]:
    return [sum(pauses[: n + 1]) for n in range(len(pauses))]


def test_seconds_left_count_from_the_last_answered_beat() -> None:
    worker = Worker()

    worker.beat(at=10)
    worker.now = 25

    assert worker.lease.seconds_left == LEASE - 15


def test_a_lease_that_is_not_held_has_no_seconds_left() -> None:
    late, unsure, buried = Worker(), Worker(), Worker()

    late.now = LEASE + 1
    unsure.lease.miss()
    buried.lease.lose()

    assert [worker.lease.seconds_left for worker in (late, unsure, buried)] == [0, 0, 0]
