"""From a claimed row to a call of its function.

Invariant: what a function needs beyond its arguments is found out once; a plain async function costs a look-up.
"""

import inspect
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from pg_scheduler._domain import typed_arguments
from pg_scheduler._domain.parameters import context_parameters
from pg_scheduler._engine.offloading import Offloading
from pg_scheduler._engine.slots import HeldJob
from pg_scheduler.context import JobContext
from pg_scheduler.tasks import Registry, TaskFunction, TaskOptions, task_options

Call = Callable[[], Awaitable[Any]]
Middleware = Callable[[Call, JobContext], Coroutine[Any, Any, Any]]
MakeContext = Callable[[HeldJob, float | None], JobContext]

_NO_OPTIONS = TaskOptions()


@dataclass(frozen=True, slots=True, kw_only=True)
class CallPlan:
    """How one function is called.

    Attributes:
        function: what is called.
        options: what ``@task`` said of it.
        contexts: the parameters that take the context, each with its place among the positional ones.
        is_typed: whether some arguments are built from JSON.
        is_plain: whether there is nothing to do but call it.
    """

    function: TaskFunction
    options: TaskOptions
    contexts: Sequence[tuple[str, int]]
    is_typed: bool
    is_plain: bool


class Calls:
    """The plans of a worker's tasks, and the calls that they lead to."""

    def __init__(
        self,
        registry: Registry,
        *,
        make_context: MakeContext,
        offloading: Offloading,
        middleware: Sequence[Middleware] = (),
    ) -> None:
        self._registry = registry
        self._make_context = make_context
        self._offloading = offloading
        self._middleware = tuple(reversed(middleware))
        self._plans: dict[TaskFunction, CallPlan] = {}

    def plan(self, task: str) -> CallPlan:
        """How this task is called."""
        function = self._registry[task]
        plan = self._plans.get(function)
        if plan is None:
            plan = self._plans[function] = self._planned(function)
        return plan

    def begin(
        self, plan: CallPlan, held: HeldJob, args: list[Any], kwargs: dict[str, Any], deadline: float | None
    ) -> Coroutine[Any, Any, Any]:
        """The coroutine of a job whose plan is not plain; nothing of it has run yet.

        Raises:
            InvalidArguments: the arguments do not fit the function's typed parameters.
        """
        if plan.is_typed:
            args, kwargs = typed_arguments.built(plan.function, args, kwargs)
        context = self._make_context(held, deadline)
        for name, place in plan.contexts:
            if place < 0 or len(args) < place:
                kwargs[name] = context
            else:
                args.insert(place, context)
        call: Callable[[], Any] = partial(plan.function, *args, **kwargs)
        if plan.options.executor is not None:
            call = partial(self._offloading.run, plan.options.executor, call)
        for middleware in self._middleware:
            call = partial(middleware, call, context)
        coroutine: Coroutine[Any, Any, Any] = call()
        return coroutine

    def _planned(self, function: TaskFunction) -> CallPlan:
        options = task_options(function)
        places = _places(function)
        contexts = [(name, places.get(name, -1)) for name in context_parameters(function)]
        is_typed = options is not None and bool(typed_arguments.typed_parameters(function))
        is_special = bool(contexts or is_typed or self._middleware)
        options = options or _NO_OPTIONS
        return CallPlan(
            function=function,
            options=options,
            contexts=contexts,
            is_typed=is_typed,
            is_plain=not is_special and options.executor is None and options.timeout is None,
        )


def _places(function: TaskFunction) -> Mapping[str, int]:
    code = function.__code__
    return {name: place for place, name in enumerate(code.co_varnames[: code.co_argcount])}


def require_middleware(middleware: Sequence[Middleware]) -> tuple[Middleware, ...]:
    """The same, checked.

    Raises:
        TypeError: one is no async function.
    """
    for one in middleware:
        if not (inspect.iscoroutinefunction(one) or inspect.iscoroutinefunction(getattr(one, "__call__", None))):  # noqa: B004
            raise TypeError(f"middleware {one!r:.60} is no async function of (call, ctx)")
    return tuple(middleware)
