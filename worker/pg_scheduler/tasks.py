"""Tasks: functions by the names that rows carry, and what their decorators say of them.

Invariant: one key means one function. The same code may register again (a module loaded twice); other code under a
taken key is an error where it is registered, never a surprise where it runs.

Rows also name tasks by a bare function name: jobs adopted from the older package, which knew no other names, and jobs
that were scheduled by name where nobody knew the task. Such a name means the one function here that is called so; where
two are, it means none, and its jobs wait.
"""

import inspect
import math
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from types import CodeType, ModuleType
from typing import Any, Literal, TypeVar, get_args, overload

from pg_scheduler._domain.options import TIMEOUT_SECONDS_MAX
from pg_scheduler._domain.parameters import context_parameters
from pg_scheduler.errors import InvalidArgument
from pg_scheduler.retry_policy import RetryPolicy

TaskFunction = Callable[..., Any]
"""An async function; a plain one where ``@task(executor=…)`` says where it runs."""
SyncExecutor = Literal["thread", "process"]
F = TypeVar("F", bound=Callable[..., Coroutine[Any, Any, Any]])
G = TypeVar("G", bound=Callable[..., Any])
_NAME_ATTRIBUTE = "__pg_scheduler_task__"
_OWN_PREFIX = "pgscheduler."
_OPTIONS_ATTRIBUTE = "__pg_scheduler_options__"


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskOptions:
    """What ``@task`` says of each job of the function, unless the job says otherwise.

    Attributes:
        executor: where a plain function runs; None for an async one.
        timeout: seconds that an attempt may take.
        retry_policy: delays between attempts.
        keep_result: whether what it returns is stored.
        args_from: the worker's environment variables that a job may have arguments from.

    Raises:
        InvalidArgument: a value out of its range, with the range.
    """

    executor: SyncExecutor | None = None
    timeout: float | None = None
    retry_policy: RetryPolicy | None = None
    keep_result: bool = False
    args_from: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.executor is not None and self.executor not in get_args(SyncExecutor):
            raise InvalidArgument(f"executor is {str(self.executor)[:40]!r}", fix='give "thread" or "process"')
        if self.timeout is not None and not _is_timeout(self.timeout):
            raise InvalidArgument(
                f"timeout is {str(self.timeout)[:40]!r}", fix=f"give seconds above 0, up to {TIMEOUT_SECONDS_MAX}"
            )
        if self.retry_policy is not None and not isinstance(self.retry_policy, RetryPolicy):
            raise InvalidArgument(f"retry_policy is a {type(self.retry_policy).__name__}", fix="give a RetryPolicy")
        if isinstance(self.args_from, str) or not all(map(_may_be_given, self.args_from)):
            raise InvalidArgument(
                f"args_from is {str(self.args_from)[:40]!r}",
                fix="give a list of names of environment variables that do not begin with PG",
            )


class Registry:
    """Functions by key."""

    def __init__(self) -> None:
        self._functions: dict[str, TaskFunction] = {}
        self._bare: dict[str, TaskFunction] = {}
        self._allowed: Sequence[str] | None = None
        self._claimable: list[str] = []

    def add(self, function: TaskFunction, key: str | None = None) -> str:
        """Register and return the key: the given one, the one of ``@task``, else ``module:qualname``.

        Raises:
            TypeError: not an async function.
            InvalidArgument: the key is taken by other code.
        """
        require_async(function)
        key = key or key_of(function)
        known = self._functions.get(key)
        if known is not None and _code_of(known) is not _code_of(function) and not _same_place(known, function):
            raise InvalidArgument(
                f"task key {key!r} is taken by {_place_of(known)}",
                why=f"{_place_of(function)} asks for it too",
                fix="give one of them another name with @task(name=…)",
            )
        self._functions[key] = function
        if known is not function:
            self._bare = {name: found[0] for name, found in self._by_bare_name().items() if len(found) == 1}
            self._claimable = self._allowed_names()
        return key

    def add_module(self, module: ModuleType) -> list[str]:
        """Register every public top-level async function and task that the module itself defines; their keys."""
        own = [
            member
            for name, member in vars(module).items()
            if not name.startswith("_") and is_task(member) and member.__module__ == module.__name__
        ]
        return [self.add(function) for function in own]

    def __getitem__(self, task: str) -> TaskFunction:
        """The function that a row means: by its key, else by its bare name."""
        return self._functions.get(task) or self._bare[task]

    def named(self, name: str) -> list[str]:
        """Keys whose bare function name, or which themselves, are ``name``."""
        return [key for key, function in self._functions.items() if name in {key, function.__name__}]

    def keys(self) -> list[str]:
        """Every key, sorted."""
        return sorted(self._functions)

    def restrict(self, allowed: Sequence[str] | None) -> bool:
        """Let rows name only tasks that one of these globs matches, case and all, and our own; any task with None.

        Returns:
            Whether that is something new.
        """
        if allowed == self._allowed:
            return False
        self._allowed = allowed
        self._claimable = self._allowed_names()
        return True

    def claimable(self) -> list[str]:
        """What rows that run here may name as their task: every key, and every bare name that is clear here."""
        return self._claimable

    def _allowed_names(self) -> list[str]:
        names = sorted(self._functions.keys() | self._bare.keys())
        if self._allowed is None:
            return names
        globs = (_OWN_PREFIX + "*", *self._allowed)
        return [name for name in names if any(fnmatchcase(name, glob) for glob in globs)]

    def unclear_names(self) -> dict[str, list[str]]:
        """Bare names that several functions here share, with their keys."""
        shared = (name for name, found in self._by_bare_name().items() if len(found) > 1)
        return {name: self.named(name) for name in shared}

    def functions(self) -> dict[str, TaskFunction]:
        """A copy: the functions by key."""
        return dict(self._functions)

    def _by_bare_name(self) -> dict[str, list[TaskFunction]]:
        """Functions by bare name, one for each place in the code; without names that are keys, and our own."""
        found: dict[str, dict[str, TaskFunction]] = {}
        for key, function in self._functions.items():
            if function.__name__ not in self._functions and not key.startswith(_OWN_PREFIX):
                found.setdefault(function.__name__, {})[_source_of(function)] = function
        return {name: list(places.values()) for name, places in found.items()}


registry = Registry()
"""The tasks that decorators of this process have named."""


@overload
def task(function: F, /) -> F: ...
@overload
def task(
    *,
    name: str | None = None,
    timeout: float | None = None,
    retry_policy: RetryPolicy | None = None,
    keep_result: bool = False,
    args_from: Sequence[str] = (),
) -> Callable[[F], F]: ...
@overload
def task(
    *,
    name: str | None = None,
    executor: SyncExecutor,
    timeout: float | None = None,
    retry_policy: RetryPolicy | None = None,
    keep_result: bool = False,
    args_from: Sequence[str] = (),
) -> Callable[[G], G]: ...


def task(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    executor: SyncExecutor | None = None,
    timeout: float | None = None,
    retry_policy: RetryPolicy | None = None,
    keep_result: bool = False,
    args_from: Sequence[str] = (),
) -> Any:
    """Name a function as a task of every worker that imports it, and return it unchanged.

    Parameters annotated with a dataclass or a pydantic model are built from the job's JSON before the call; at
    submission an instance may be given for them. A parameter annotated ``JobContext`` is given the running attempt.

    Args:
        function: the function, when used without parentheses.
        name: its key; ``module:qualname`` if not given. At most 253 characters of letters, digits and ``_ . : -``.
        executor: for a plain ``def``: ``"thread"`` or ``"process"``. Neither can be stopped from outside: the job keeps
            its slot until the function returns, and what it returns is discarded if the job was taken away meanwhile.
        timeout: seconds that an attempt may take, up to 366 days.
        retry_policy: delays between attempts.
        keep_result: whether what it returns is stored for ``Scheduler.result``.
        args_from: names of environment variables of the worker that a custom resource may fill arguments from.

    Raises:
        TypeError: not an async function, and no ``executor`` given.
        InvalidArgument: the key is taken by other code, or an option out of its range.
    """
    options = TaskOptions(
        executor=executor, timeout=timeout, retry_policy=retry_policy, keep_result=keep_result, args_from=args_from
    )

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        _require_runs_in(function, executor)
        setattr(function, _OPTIONS_ATTRIBUTE, options)
        setattr(function, _NAME_ATTRIBUTE, name or default_key(function))
        registry.add(function)
        return function

    return register if function is None else register(function)


def is_own_variable(name: str) -> bool:
    """Whether an environment variable is this package's or PostgreSQL's, which no job is ever given."""
    return name.startswith("PG")


def _may_be_given(name: object) -> bool:
    return isinstance(name, str) and not is_own_variable(name)


def is_task(thing: object) -> bool:
    """Whether it is a function that may be registered."""
    return inspect.isfunction(thing) and (inspect.iscoroutinefunction(thing) or _is_offloaded(thing))


def task_options(function: Callable[..., Any]) -> TaskOptions | None:
    """What ``@task`` said of the function; None without it."""
    return getattr(function, _OPTIONS_ATTRIBUTE, None)


def require_async(function: object) -> None:
    """Refuse what is neither an async function nor a plain one that ``@task`` gave an executor.

    Raises:
        TypeError: with what it is instead.
    """
    if is_task(function):
        return
    name = getattr(function, "__qualname__", None) or type(function).__name__
    raise TypeError(f"Only async functions can be scheduled; {name} is not one: {_fix_of(function)}")


def _fix_of(function: object) -> str:
    if inspect.ismethod(function):
        return "use a function, not an object's method"
    if inspect.isasyncgenfunction(function):
        return "return a value instead of yielding some"
    if isinstance(function, partial) or not inspect.isroutine(function):
        return "define a function with async def that calls it"
    return "define it with async def"


def _is_offloaded(function: Callable[..., Any]) -> bool:
    options = task_options(function)
    return options is not None and options.executor is not None


def _require_runs_in(function: Callable[..., Any], executor: SyncExecutor | None) -> None:
    if executor is None:
        require_async(function)
        return
    if not inspect.isfunction(function) or inspect.iscoroutinefunction(function) or _is_generator(function):
        raise TypeError(f"@task(executor={executor!r}) is for plain functions defined with def")
    if executor == "process" and context_parameters(function):
        raise InvalidArgument(
            f"{function.__qualname__} asks for a JobContext in another process",
            why="a context lives in the worker's own process",
            fix='leave the parameter out, or use executor="thread"',
        )


def _is_generator(function: Callable[..., Any]) -> bool:
    return inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)


def _is_timeout(value: object) -> bool:
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and math.isfinite(value)
        and 0 < value <= TIMEOUT_SECONDS_MAX
    )


def key_of(function: TaskFunction) -> str:
    """The key that ``@task`` gave, else ``module:qualname``."""
    return getattr(function, _NAME_ATTRIBUTE, None) or default_key(function)


def default_key(function: Callable[..., Any]) -> str:
    """``module:qualname``."""
    return f"{function.__module__}:{function.__qualname__}"


def _code_of(function: TaskFunction) -> CodeType | None:
    return getattr(function, "__code__", None)


def _same_place(known: TaskFunction, new: TaskFunction) -> bool:
    return _place_of(known) == _place_of(new)


def _place_of(function: TaskFunction) -> str:
    code = _code_of(function)
    return f"{code.co_filename}:{code.co_firstlineno}" if code else default_key(function)


def _source_of(function: TaskFunction) -> str:
    """Where its code stands: a module loaded under two names is one source. Code that no file holds goes by its key."""
    place = _place_of(function)
    return default_key(function) if place.startswith("<") else place
