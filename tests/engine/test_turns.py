"""When jobs with a concurrency key and those of limited queues are asked for, and which claim comes first."""

from __future__ import annotations

import pytest

from pg_scheduler._engine import turns as turns_module
from pg_scheduler._engine.config import PREFETCH_SECONDS
from pg_scheduler._engine.turns import Turn, Turns

PLAIN, KEYED, LIMITED = Turn.PLAIN, Turn.KEYED, Turn.LIMITED


def test_nothing_is_asked_of_keys_while_no_keyed_job_is_known_to_be_due() -> None:
    turns = Turns()
    assert turns.take() == (PLAIN,)

    turns.observe(60.0)

    assert turns.take() == (PLAIN,)
    assert turns.within(5.0) == 5.0


def test_the_two_claims_take_turns_while_some_are_due() -> None:
    turns = Turns()
    turns.observe(-1.0)

    assert [turns.take() for _ in range(3)] == [(KEYED, PLAIN), (PLAIN, KEYED), (KEYED, PLAIN)]
    turns.observe(None)
    assert turns.take() == (PLAIN,)


def test_a_pause_ends_where_the_first_keyed_job_can_be_claimed_ahead_and_is_none_before_one_not_asked_for() -> None:
    turns = Turns()
    turns.take()
    turns.observe(2.0)
    assert 1.0 < turns.within(5.0) <= 2.0 - PREFETCH_SECONDS
    turns.observe(-1.0)
    assert turns.within(5.0) == 0.0

    turns.take()

    assert turns.within(5.0) == 5.0


def test_a_job_that_could_not_be_claimed_ahead_is_asked_for_again_at_its_instant(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 100.0
    monkeypatch.setattr(turns_module, "monotonic", lambda: now)
    turns = Turns()
    turns.observe(0.1)
    assert turns.take() == (KEYED, PLAIN)
    assert turns.within(5.0) == pytest.approx(0.1)

    now = 100.2
    assert turns.within(5.0) == 0.0, "it is due, and was asked for only before"
    turns.take()

    assert turns.within(5.0) == 5.0


def test_a_job_that_was_due_long_before_it_was_heard_of_is_asked_for_at_once() -> None:
    turns = Turns()
    turns.observe(-1.0)
    turns.take()
    turns.observe(None)
    turns.take()

    turns.observe(-60.0)

    assert turns.within(5.0) == 0.0


def test_a_limited_queue_is_asked_once_it_may_start_something_and_is_first_when_it_is_its_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 100.0
    monkeypatch.setattr(turns_module, "monotonic", lambda: now)
    turns = Turns()
    turns.observe(-1.0, 2.0)
    turns.take()
    assert turns.within(5.0) == 2.0

    now = 102.0

    assert turns.within(5.0) == 0.0
    assert turns.take() == (PLAIN, KEYED, LIMITED)
    assert turns.take(limited_first=True) == (LIMITED, KEYED, PLAIN)


def test_a_limited_queue_that_gave_all_it_could_is_asked_again_when_a_job_of_it_has_ended() -> None:
    turns = Turns()
    turns.observe(None, 0.0)
    assert turns.take() == (PLAIN, LIMITED)

    turns.came_short(LIMITED, 3)
    assert turns.take() == (PLAIN,)
    assert turns.ask_limited()
    assert turns.take() == (PLAIN, LIMITED)


def test_the_end_of_a_job_asks_for_nothing_where_none_waits() -> None:
    turns = Turns()
    turns.observe(None, None)

    assert not turns.ask_limited()
    assert turns.take() == (PLAIN,)


def test_a_limited_queue_whose_lock_another_worker_holds_is_not_asked_without_a_pause() -> None:
    turns = Turns()
    turns.observe(None, 0.0)
    turns.came_short(LIMITED, 0)

    turns.observe(None, 0.0)

    assert 0 < turns.within(5.0) <= turns_module.IN_VAIN_SECONDS
    assert turns.take() == (PLAIN,)
    turns.observe(None, 0.0)
    assert turns.within(5.0) == 0.0
