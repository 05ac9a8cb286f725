"""Arguments of ``@task`` functions that are more than JSON: dataclasses and pydantic models.

Invariant: what ``dumped`` makes of an instance, ``built`` makes an equal instance of. pydantic is looked up among the
loaded modules and never imported: who annotates a model has loaded it.
"""

import contextlib
import dataclasses
import sys
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Protocol, cast

from pg_scheduler._domain.parameters import annotations_of, signature_of
from pg_scheduler.errors import InvalidArguments

_SCALARS = (str, int, float, bool)
_UNIONS = (typing.Union, types.UnionType)


class _Model(Protocol):
    """The part of a pydantic model that is used here."""

    def model_dump(self, *, mode: str) -> Any: ...
    def model_validate(self, value: Any, /) -> Any: ...


@lru_cache(maxsize=1024)
def typed_parameters(function: Callable[..., Any]) -> Mapping[str, Any]:
    """Annotations of those parameters that are built from JSON."""
    return {name: annotation for name, annotation in annotations_of(function).items() if _is_typed(annotation)}


def built(
    function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[list[Any], dict[str, Any]]:
    """The arguments of a call, with instances where the function's annotations ask for them.

    Raises:
        InvalidArguments: they do not fit; the message names the place.
    """
    _require_fit(function, args, kwargs)
    typed = typed_parameters(function)
    names = _positional_names(function, len(args))
    return (
        [_build(typed[name], value, name) if name in typed else value for name, value in zip(names, args, strict=True)],
        {name: _build(typed[name], value, name) if name in typed else value for name, value in kwargs.items()},
    )


def dumped(
    function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[list[Any], dict[str, Any]]:
    """The arguments of a call, with plain JSON where instances were given for such parameters.

    Raises:
        InvalidArguments: plain values given for such a parameter do not fit it.
    """
    typed = typed_parameters(function)
    names = _positional_names(function, len(args))
    return (
        [_dump(typed[name], value, name) if name in typed else value for name, value in zip(names, args, strict=True)],
        {name: _dump(typed[name], value, name) if name in typed else value for name, value in kwargs.items()},
    )


def _require_fit(function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    try:
        signature_of(function).bind(*args, **kwargs)
    except TypeError as error:
        raise InvalidArguments(f"{function.__name__} cannot be called with these arguments: {error}") from error


def _positional_names(function: Callable[..., Any], count: int) -> list[str]:
    """Names of the first parameters; more arguments than parameters belong to ``*args``, which has no type here."""
    names = [p.name for p in signature_of(function).parameters.values() if p.kind <= p.POSITIONAL_OR_KEYWORD]
    return (names + [""] * count)[:count]


def _is_typed(annotation: Any) -> bool:
    if _is_record(annotation):
        return True
    return any(_is_typed(part) for part in typing.get_args(annotation))


def _is_record(annotation: Any) -> bool:
    return isinstance(annotation, type) and (dataclasses.is_dataclass(annotation) or _is_model(annotation))


def _is_model(kind: type) -> bool:
    pydantic = sys.modules.get("pydantic")
    return pydantic is not None and issubclass(kind, pydantic.BaseModel)


def _dump(annotation: Any, value: Any, path: str) -> Any:
    data = plain(value)
    _build(annotation, data, path)
    return data


def plain(value: Any) -> Any:
    """The value with plain JSON in the place of dataclass instances and models, however deep they lie."""
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if _is_model(type(value)):
        return cast("_Model", value).model_dump(mode="json")
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value) if field.init}
    return value


def _build(annotation: Any, value: Any, path: str) -> Any:
    origin = typing.get_origin(annotation)
    if origin in _UNIONS:
        return _build_union(typing.get_args(annotation), value, path)
    if origin is list and isinstance(value, list):
        (item_type,) = typing.get_args(annotation)
        return [_build(item_type, item, f"{path}[{index}]") for index, item in enumerate(value)]
    if origin is dict and isinstance(value, dict):
        _, item_type = typing.get_args(annotation)
        return {key: _build(item_type, item, f"{path}[{key!r}]") for key, item in value.items()}
    if _is_record(annotation):
        return (
            _build_model(annotation, value, path)
            if _is_model(annotation)
            else _build_dataclass(annotation, value, path)
        )
    if annotation in _SCALARS or annotation is type(None):
        _require(annotation, value, path)
    elif origin in {list, dict}:
        _require(origin, value, path)
    return value


def _build_union(choices: Sequence[Any], value: Any, path: str) -> Any:
    """As the first that fits; if none does, the first says why."""
    first, *others = choices
    try:
        return _build(first, value, path)
    except InvalidArguments:
        for other in others:
            with contextlib.suppress(InvalidArguments):
                return _build(other, value, path)
        raise


def _build_model(kind: Any, value: Any, path: str) -> Any:
    validation_error = sys.modules["pydantic"].ValidationError
    try:
        return kind.model_validate(value)
    except validation_error as error:
        places = [".".join(map(str, (path, *item["loc"]))) for item in error.errors(include_input=False)]
        reasons = [item["msg"] for item in error.errors(include_input=False)]
        listed = "; ".join(f"{place}: {reason}" for place, reason in zip(places, reasons, strict=True))
        raise InvalidArguments(f"{path} is no {kind.__name__}", why=listed[:1000]) from None


def _build_dataclass(kind: Any, value: Any, path: str) -> Any:
    if not isinstance(value, dict):
        raise InvalidArguments(f"{path} is no {kind.__name__}", why=f"it is a {type(value).__name__}, not an object")
    hints = typing.get_type_hints(kind)
    fields = {field.name for field in dataclasses.fields(kind) if field.init}
    if unknown := sorted(map(str, value.keys() - fields)):
        raise InvalidArguments(f"{path} is no {kind.__name__}", why=f"it has no field {unknown[0][:40]!r}")
    parts = {name: _build(hints[name], item, f"{path}.{name}") for name, item in value.items()}
    try:
        return kind(**parts)
    except (TypeError, ValueError) as error:  # a field is missing, or __post_init__ objects
        raise InvalidArguments(f"{path} is no {kind.__name__}", why=str(error)[:1000]) from error


def _require(kind: type, value: Any, path: str) -> None:
    wanted = (int, float) if kind is float else kind
    if not isinstance(value, wanted) or (isinstance(value, bool) and kind is not bool):
        raise InvalidArguments(f"{path} is a {type(value).__name__}, not a {kind.__name__}")
