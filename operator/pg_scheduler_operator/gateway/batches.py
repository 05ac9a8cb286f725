"""Many questions asked at once, answered by one statement.

Invariants: whoever asks gets his own answer or error, and one that cannot be answered spoils no other; while one batch
is on its way the next one gathers.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

Question = TypeVar("Question")
Answer = TypeVar("Answer")


class Batches(Generic[Question, Answer]):
    """Questions of many tasks, each waiting for its answer."""

    def __init__(self, answer: Callable[[Sequence[Question]], Awaitable[Sequence[Answer]]]) -> None:
        """Have ``answer`` called with as many questions as wait; it answers each, in their order."""
        self._answer = answer
        self._waiting: dict[asyncio.Future[Answer], Question] = {}
        self._turn = asyncio.Lock()

    async def ask(self, question: Question) -> Answer:
        """The answer to this one."""
        own: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting[own] = question
        try:
            async with self._turn:  # whoever gets it first takes the others' questions along
                if not own.done():
                    await self._answer_waiting()
        finally:
            self._waiting.pop(own, None)
        return own.result()

    async def _answer_waiting(self) -> None:
        batch = dict(self._waiting)
        try:
            answers = await self._answer(list(batch.values()))
        except Exception:  # of any kind: one question that cannot be answered must not cost the others their answers
            if len(batch) == 1:
                raise
            await self._answer_each(batch)
        else:
            for future, answer in zip(batch, answers, strict=True):
                _settle(future, answer)

    async def _answer_each(self, batch: dict[asyncio.Future[Answer], Question]) -> None:
        for future, question in batch.items():
            try:
                (answer,) = await self._answer([question])
            except Exception as error:  # noqa: BLE001 (raised where it was asked)
                if not future.done():
                    future.set_exception(error)
            else:
                _settle(future, answer)


def _settle(future: asyncio.Future[Answer], answer: Answer) -> None:
    if not future.done():
        future.set_result(answer)
