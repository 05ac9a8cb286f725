"""Whose turn it is among the queues of a worker: shares as the weights, and nobody left out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from pg_scheduler._domain.shares import Shares

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

WEIGHTS = st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 1000), min_size=2)
BATCHES = st.lists(st.integers(1, 10), min_size=1, max_size=60)


def all_due(shares: Shares, queues: Mapping[str, int], batches: Sequence[int]) -> dict[str, int]:
    """How many of each have been started, where each queue has more due jobs than any claim takes."""
    started = dict.fromkeys(queues, 0)
    for batch in batches:
        order = shares.order()
        started[order[0]] += batch
        shares.charge({order[0]: batch})
    return started


@given(weights=WEIGHTS, batches=BATCHES)
def test_starts_are_as_the_weights_within_one_claim(weights: dict[str, int], batches: list[int]) -> None:
    shares = Shares(list(weights))
    shares.weigh(weights)

    started = all_due(shares, weights, batches)

    turns = [started[queue] / weights[queue] for queue in weights]
    assert max(turns) - min(turns) <= max(batches) / min(weights.values()) + 1e-6


@given(weights=WEIGHTS, batches=BATCHES, idle=st.integers(1, 50))
def test_a_queue_that_had_nothing_for_a_while_gets_nothing_back_for_it(
    weights: dict[str, int], batches: list[int], idle: int
) -> None:
    shares, (first, *others) = Shares(list(weights)), weights
    shares.weigh(weights)
    for _ in range(idle):
        busy = next(queue for queue in shares.order() if queue != first)
        shares.charge({busy: 1})

    started = all_due(shares, weights, batches)

    turns = [started[queue] / weights[queue] for queue in weights]
    assert started[first] / weights[first] <= min(turns[1:]) + (max(batches) + 1) / min(weights.values()) + 1e-6
    assert others


def test_without_weights_each_has_its_turn() -> None:
    shares = Shares(["a", "b", "c"])

    assert all_due(shares, dict.fromkeys("abc", 1), [10] * 9) == {"a": 30, "b": 30, "c": 30}
