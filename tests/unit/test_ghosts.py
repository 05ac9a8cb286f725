"""When a token that the table lists and nobody here knows is a ghost."""

from pg_scheduler._domain.jobs import ClaimedJob
from pg_scheduler._engine.ghosts import Ghosts
from support.world import LONG_AGO


def test_a_token_unknown_in_two_beats_is_disowned_once() -> None:
    ghosts = Ghosts()

    seen = [ghosts.observe(sent_at, {7}) for sent_at in (10.0, 30.0)]

    assert seen == [frozenset(), {7}]
    assert ghosts.is_disowned(7)
    assert ghosts.observe(50.0, set()) == frozenset()


def test_a_token_known_by_the_second_beat_is_no_ghost() -> None:
    ghosts = Ghosts()
    ghosts.observe(10.0, {7})

    assert ghosts.observe(30.0, {8}) == frozenset()
    assert not ghosts.is_disowned(7)
    assert ghosts.observe(50.0, {8}) == {8}


def test_nothing_is_disowned_while_a_claim_from_before_the_first_beat_is_under_way() -> None:
    ghosts = Ghosts()
    with ghosts.claim(9.0):
        ghosts.observe(10.0, {7})
        assert ghosts.observe(30.0, {7}) == frozenset()

    assert ghosts.observe(50.0, {7}) == {7}


def test_a_claim_begun_after_the_first_beat_hides_no_ghost() -> None:
    ghosts = Ghosts()
    ghosts.observe(10.0, {7})

    with ghosts.claim(11.0):
        assert ghosts.observe(30.0, {7}) == {7}


def test_a_claim_that_comes_after_all_is_without_what_was_disowned() -> None:
    ghosts, claimed = Ghosts(), [_job(7), _job(8)]
    assert list(ghosts.without_disowned(claimed)) == claimed

    for sent_at in (10.0, 30.0):
        ghosts.observe(sent_at, {7})

    assert list(ghosts.without_disowned(claimed)) == [_job(8)]


def _job(token: int) -> ClaimedJob:
    return ClaimedJob(token, f"j{token}", token, "w", "t", "{}", "default", 5, LONG_AGO, 1, 0, 0)
