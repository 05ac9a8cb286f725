"""Drive a coroutine step by step, in a context of its own.

Invariant: what a job sets in its context variables reaches no other job, and what it awaits is awaited by the asyncio
task that drives it.
"""

from collections.abc import Callable, Coroutine, Generator
from contextvars import Context
from typing import Any


def first_step(coroutine: Coroutine[Any, Any, Any], context: Context) -> Any:
    """Run until the coroutine first waits: then a ``Rest``, else what it returned without waiting."""
    try:
        awaited = context.run(coroutine.send, None)
    except StopIteration as end:
        return end.value
    return Rest(coroutine, context, awaited)


class Rest:
    """A coroutine that waits for something: awaiting this goes on with it and gives what it returns."""

    __slots__ = ("_awaited", "_context", "_coroutine")

    def __init__(self, coroutine: Coroutine[Any, Any, Any], context: Context, awaited: Any) -> None:
        self._coroutine = coroutine
        self._context = context
        self._awaited = awaited

    def __await__(self) -> Generator[Any, Any, Any]:
        """Hand each thing that the coroutine awaits to the driving task, and its answer back."""
        coroutine, run, awaited = self._coroutine, self._context.run, self._awaited
        while True:
            step: Callable[[Any], Any] = coroutine.send
            try:
                answer = yield awaited
            except BaseException as error:  # noqa: BLE001  a cancellation above all: the coroutine decides
                step, answer = coroutine.throw, error
            try:
                awaited = run(step, answer)
            except StopIteration as end:
                return end.value
