"""When jobs with a concurrency key are asked for, and which of the two claims comes first."""

from __future__ import annotations

import pytest

from pg_scheduler._engine import turns as turns_module
from pg_scheduler._engine.config import PREFETCH_SECONDS
from pg_scheduler._engine.turns import Turns


def test_nothing_is_asked_of_keys_while_no_keyed_job_is_known_to_be_due() -> None:
    turns = Turns()
    assert turns.take() == (False,)

    turns.observe(60.0)

    assert turns.take() == (False,)
    assert turns.within(5.0) == 5.0


def test_the_two_claims_take_turns_while_some_are_due() -> None:
    turns = Turns()
    turns.observe(-1.0)

    assert [turns.take() for _ in range(3)] == [(True, False), (False, True), (True, False)]
    turns.observe(None)
    assert turns.take() == (False,)


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
    assert turns.take() == (True, False)
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
