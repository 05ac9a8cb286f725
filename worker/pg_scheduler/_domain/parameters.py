"""What a task's parameters ask for, read from its signature once.

Invariant: an annotation that cannot be resolved is no error; the parameter then takes its argument as it comes.
"""

import inspect
import types
import typing
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from pg_scheduler.context import JobContext

_CONTEXT_NAME = JobContext.__name__


@lru_cache(maxsize=1024)
def annotations_of(function: Callable[..., Any]) -> dict[str, Any]:
    """Parameter annotations as objects; those that name nothing in the function's globals stay text."""
    parameters = inspect.signature(function).parameters.values()
    namespace = getattr(inspect.unwrap(function), "__globals__", {})
    return {
        parameter.name: _resolved(parameter.annotation, namespace)
        for parameter in parameters
        if parameter.annotation is not parameter.empty
    }


@lru_cache(maxsize=1024)
def context_parameters(function: Callable[..., Any]) -> tuple[str, ...]:
    """Names of the parameters that take the ``JobContext``."""
    return tuple(name for name, annotation in annotations_of(function).items() if _is_context(annotation))


@lru_cache(maxsize=1024)
def signature_of(function: Callable[..., Any]) -> inspect.Signature:
    """The signature as callers see it: without the parameters that take the ``JobContext``.

    Reading a signature takes 20 µs, binding to it 2; a bulk of jobs is mostly one function.
    """
    signature, own = inspect.signature(function), context_parameters(function)
    kept = [parameter for name, parameter in signature.parameters.items() if name not in own]
    return signature.replace(parameters=kept)


def _resolved(annotation: Any, namespace: dict[str, Any]) -> Any:
    holder = types.SimpleNamespace(__annotations__={"it": annotation})
    try:
        return typing.get_type_hints(holder, globalns=namespace)["it"]
    except Exception:  # noqa: BLE001  names of a type checker only, or of another module: whatever it is, no error
        return annotation


def _is_context(annotation: Any) -> bool:
    if isinstance(annotation, str):  # a name imported for the type checker only
        parts = [part.strip().rpartition(".")[2] for part in annotation.strip("'\"").split("|")]
        return _CONTEXT_NAME in parts
    return annotation is JobContext or JobContext in typing.get_args(annotation)
