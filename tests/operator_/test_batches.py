from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from pg_scheduler_operator.gateway.batches import Batches
from support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Sequence


class Doubler:
    """Doubles numbers; each call waits until it is let go. A negative number cannot be doubled."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.go = asyncio.Semaphore(0)

    async def answer(self, numbers: Sequence[int]) -> Sequence[int]:
        self.calls.append(list(numbers))
        await self.go.acquire()
        if min(numbers) < 0:
            raise ValueError(f"{numbers}")
        return [2 * number for number in numbers]

    def let_all_go(self) -> None:
        for _ in range(9):
            self.go.release()


async def asked(batches: Batches[int, int], *numbers: int) -> list[asyncio.Task[int]]:
    """A task each, which waits for its answer."""
    tasks = [asyncio.create_task(batches.ask(number)) for number in numbers]
    await asyncio.sleep(0)
    return tasks


async def test_what_is_asked_while_a_batch_is_on_its_way_goes_together() -> None:
    doubler = Doubler()
    batches = Batches(doubler.answer)
    first = await asked(batches, 1)
    others = await asked(batches, 2, 3, 4)

    doubler.let_all_go()

    assert await asyncio.gather(*first, *others) == [2, 4, 6, 8]
    assert doubler.calls == [[1], [2, 3, 4]]


async def test_one_that_cannot_be_answered_spoils_no_other() -> None:
    doubler = Doubler()
    batches = Batches(doubler.answer)
    first = await asked(batches, 1)
    others = await asked(batches, 2, -3, 4)

    doubler.let_all_go()
    answers = await asyncio.gather(*first, *others, return_exceptions=True)

    assert [type(answer) for answer in answers] == [int, int, ValueError, int]
    assert doubler.calls == [[1], [2, -3, 4], [2], [-3], [4]]


async def test_the_only_one_that_cannot_be_answered_is_asked_once() -> None:
    doubler = Doubler()
    doubler.let_all_go()

    with pytest.raises(ValueError, match="-1"):
        await Batches(doubler.answer).ask(-1)

    assert len(doubler.calls) == 1


async def test_others_are_answered_when_the_one_who_asks_for_all_is_cancelled() -> None:
    doubler = Doubler()
    batches = Batches(doubler.answer)
    first = await asked(batches, 1)
    leader, other = await asked(batches, 2, 3)
    doubler.go.release()
    await asyncio.gather(*first)
    await until(lambda: doubler.calls == [[1], [2, 3]])

    leader.cancel()
    await asyncio.wait([leader])
    doubler.go.release()

    assert leader.cancelled()
    assert await other == 6
