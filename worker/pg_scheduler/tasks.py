"""Tasks: async functions by the names that rows carry.

Invariant: one key means one function. The same code may register again (a module loaded twice); other code under a
taken key is an error where it is registered, never a surprise where it runs.

Rows also name tasks by a bare function name: jobs adopted from the older package, which knew no other names, and jobs
that were scheduled by name where nobody knew the task. Such a name means the one function here that is called so; where
two are, it means none, and its jobs wait.
"""

import inspect
from collections.abc import Callable, Coroutine
from types import CodeType, ModuleType
from typing import Any, TypeVar, overload

from pg_scheduler.errors import InvalidArgument

TaskFunction = Callable[..., Coroutine[Any, Any, Any]]
F = TypeVar("F", bound=Callable[..., Coroutine[Any, Any, Any]])
_NAME_ATTRIBUTE = "__pg_scheduler_task__"
_OWN_PREFIX = "pgscheduler."


class Registry:
    """Functions by key."""

    def __init__(self) -> None:
        self._functions: dict[str, TaskFunction] = {}
        self._bare: dict[str, TaskFunction] = {}
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
            self._claimable = sorted(self._functions.keys() | self._bare.keys())
        return key

    def add_module(self, module: ModuleType) -> list[str]:
        """Register every public top-level async function that the module itself defines; their keys."""
        own = [
            member
            for name, member in vars(module).items()
            if not name.startswith("_") and inspect.iscoroutinefunction(member) and member.__module__ == module.__name__
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

    def claimable(self) -> list[str]:
        """What rows that run here may name as their task: every key, and every bare name that is clear here."""
        return self._claimable

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
def task(*, name: str | None = None) -> Callable[[F], F]: ...


def task(function: F | None = None, /, *, name: str | None = None) -> F | Callable[[F], F]:
    """Name an async function as a task of every worker that imports it, and return it unchanged.

    Args:
        function: the function, when used without parentheses.
        name: its key; ``module:qualname`` if not given. At most 253 characters of letters, digits and ``_ . : -``.

    Raises:
        TypeError: not an async function.
        InvalidArgument: the key is taken by other code.
    """

    def register(function: F) -> F:
        require_async(function)
        setattr(function, _NAME_ATTRIBUTE, name or default_key(function))
        registry.add(function)
        return function

    return register if function is None else register(function)


def require_async(function: object) -> None:
    """Refuse what is not an async function.

    Raises:
        TypeError: with what it is instead.
    """
    if inspect.isfunction(function) and inspect.iscoroutinefunction(function):
        return
    name = getattr(function, "__qualname__", None) or type(function).__name__
    fix = "use a function, not an object's method" if inspect.ismethod(function) else "define it with async def"
    raise TypeError(f"Only async functions can be scheduled; {name} is not one: {fix}")


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
