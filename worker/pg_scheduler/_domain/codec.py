"""Arguments to JSON text and back, exactly or not at all.

Invariant: what ``encode`` accepts, PostgreSQL's ``json`` stores and ``decode`` gives back equal, but for tuples,
which come back as lists, and whole-number keys, which come back as text.
"""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from pg_scheduler.errors import InvalidPayload

MAX_BYTES = 1024 * 1024
MAX_DEPTH = 64
MAX_DIGITS = 1000


def encode(args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """``{"args": […], "kwargs": {…}}`` as text.

    Raises:
        InvalidPayload: something in there that JSON cannot keep exactly, nesting above 64, or text above 1 MiB.
    """
    if not isinstance(kwargs, Mapping):
        raise InvalidPayload(f"kwargs is a {type(kwargs).__name__}", fix="give a dict of keyword arguments")
    if isinstance(args, str | bytes) or not isinstance(args, Sequence):
        raise InvalidPayload(f"args is a {type(args).__name__}", fix="give a list or tuple of positional arguments")
    _check(list(args), "args", 1)
    _check(dict(kwargs), "kwargs", 1)
    text = json.dumps({"args": list(args), "kwargs": dict(kwargs)}, allow_nan=False, separators=(",", ":"))
    if len(text) > MAX_BYTES:
        raise InvalidPayload(
            f"the arguments are {len(text)} bytes as JSON",
            why=f"at most {MAX_BYTES} are stored",
            fix="store the data elsewhere and pass a reference",
        )
    return text


def decode(text: str) -> tuple[list[Any], dict[str, Any]]:
    """The arguments that ``encode`` made text of.

    Raises:
        InvalidPayload: the text is not of that form (a row written by hand).
    """
    try:
        data = json.loads(text)
        args, kwargs = data.get("args", []), data.get("kwargs", {})
    except (ValueError, AttributeError, RecursionError) as error:
        raise InvalidPayload("task_data is not a JSON object with args and kwargs") from error
    if not isinstance(args, list) or not isinstance(kwargs, dict):
        raise InvalidPayload("task_data holds args or kwargs of another type", fix="args is a list, kwargs an object")
    return args, kwargs


def parts_of(task_data: object) -> tuple[Any, Any]:
    """``args`` and ``kwargs`` of a ``task_data`` that a caller wrote by hand; both are optional.

    Raises:
        InvalidPayload: not a dict, or with other keys.
    """
    if not isinstance(task_data, dict) or not task_data.keys() <= {"args", "kwargs"}:
        raise InvalidPayload("task_data is not a dict of args and kwargs", fix='give {"args": [...], "kwargs": {...}}')
    return task_data.get("args", []), task_data.get("kwargs", {})


def _check(value: Any, path: str, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise InvalidPayload(f"{path} is nested deeper than {MAX_DEPTH} levels", fix="flatten it or pass a reference")
    match value:
        case None | bool():
            return
        case str():
            _check_text(value, path)
        case int() | float():
            _check_number(value, path)
        case list() | tuple():
            for index, item in enumerate(value):
                _check(item, f"{path}[{index}]", depth + 1)
        case dict():
            _check_keys(value, path)
            for key, item in value.items():
                _check(item, f"{path}[{key!r}]", depth + 1)
        case _:
            raise InvalidPayload(f"{path} is a {type(value).__name__}", fix=_HINTS.get(type(value).__name__, _HINT))


def _check_number(value: object, path: str) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidPayload(f"{path} is {value}", why="JSON has no such number", fix="pass None or a string")
    if isinstance(value, int) and abs(value) >= 10**MAX_DIGITS:
        raise InvalidPayload(f"{path} is a number of more than {MAX_DIGITS} digits", fix="pass it as a string")


def _check_keys(value: dict[Any, Any], path: str) -> None:
    seen: set[str] = set()
    for key in value:
        if isinstance(key, bool) or not isinstance(key, str | int):
            raise InvalidPayload(f"{path} has a key of type {type(key).__name__}", fix="use text keys")
        text = str(key)
        if text in seen:
            raise InvalidPayload(f"{path} has two keys that JSON writes alike: {text[:40]!r}", fix="use text keys")
        _check_text(text, path)
        seen.add(text)


def _check_text(value: str, path: str) -> None:
    if "\x00" in value:
        raise InvalidPayload(f"{path} contains a NUL character", why="PostgreSQL stores no such text")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise InvalidPayload(f"{path} contains half a surrogate pair", why="it is no Unicode text") from error


_HINT = "pass text, numbers, booleans, None, lists or dicts"
_HINTS = {
    "bytes": "encode it, with base64 for instance",
    "datetime": "pass .isoformat()",
    "date": "pass .isoformat()",
    "Decimal": "pass str(value)",
    "UUID": "pass str(value)",
    "set": "pass a sorted list",
}
