"""When jobs with a concurrency key are asked for, and which of the two claims comes first."""

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


def test_a_pause_ends_at_the_first_keyed_job_and_is_none_before_one_that_was_not_asked_for() -> None:
    turns = Turns()
    turns.take()
    turns.observe(2.0)
    assert 1.0 < turns.within(5.0) <= 2.0
    turns.observe(-1.0)
    assert turns.within(5.0) == 0.0

    turns.take()

    assert turns.within(5.0) == 5.0
