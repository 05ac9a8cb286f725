"""Arguments to JSON text and back, exactly or not at all.

Invariant: what ``encode`` accepts, PostgreSQL's ``json`` stores and ``decode`` gives back equal, but for tuples,
which come back as lists, and whole-number keys, which come back as text.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass
from json.encoder import encode_basestring_ascii
from typing import Any

from pg_scheduler.errors import InvalidPayload

MAX_BYTES = 1024 * 1024
MAX_DEPTH = 64
MAX_DIGITS = 1000
PATH_MAX = 60
"""How much of the way to a value a message shows."""

NAMES = '"argsFrom"'
"""A text without it has no names: told by one search, since nearly every job is such a one."""
FLAT_MAX, SHORT, SHORT_TEXT = 16, 10**18, 1000
"""Arguments, and their sizes, that are plain enough for the short way; all of them together are far below the limit."""

_ENCODER = json.JSONEncoder(allow_nan=False, separators=(",", ":"))


def encode(args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """``{"args": […], "kwargs": {…}}`` as text.

    Raises:
        InvalidPayload: something in there that JSON cannot keep exactly, nesting above 64, or text above 1 MiB.
    """
    if type(args) is tuple and type(kwargs) is dict and not args and not kwargs:
        return _NOTHING
    if type(kwargs) is not dict and not isinstance(kwargs, Mapping):
        raise InvalidPayload(f"kwargs is a {type(kwargs).__name__}", fix="give a dict of keyword arguments")
    if type(args) is not tuple and (isinstance(args, str | bytes) or not isinstance(args, Sequence)):
        raise InvalidPayload(f"args is a {type(args).__name__}", fix="give a list or tuple of positional arguments")
    if not kwargs and len(args) <= FLAT_MAX and (flat := _flat(args)) is not None:
        return f'{{"args":[{flat}],"kwargs":{{}}}}'
    data = {"args": list(args), "kwargs": dict(kwargs)}
    _check(data["args"], "args", 1)
    _check(data["kwargs"], "kwargs", 1)
    return _dumped(data, "the arguments are", MAX_BYTES)


def encode_with_names(args: Sequence[Any], kwargs: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """As ``encode``, and beside the arguments the environment variable that each of other keywords is read from.

    The names travel with the arguments, so that whoever copies or runs a job needs to know nothing of them.

    Raises:
        InvalidPayload: as ``encode``.
    """
    text = encode(args, kwargs)
    return f"{text[:-1]},{NAMES}:{_ENCODER.encode(dict(names))}}}" if names else text


def names_in(text: str) -> dict[str, str]:
    """Keywords and the environment variables that they are read from, of what ``encode_with_names`` made text of."""
    names = json.loads(text).get("argsFrom", {})
    if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
        raise InvalidPayload("task_data holds argsFrom of another type", fix="it is an object of names")
    return names


def encode_object(value: object, name: str, most: int) -> str:
    """A dict as text of at most so many bytes.

    Raises:
        InvalidPayload: not a dict, or something in there that JSON cannot keep exactly.
    """
    if not isinstance(value, Mapping):
        raise InvalidPayload(f"{name} is a {type(value).__name__}", fix="give a dict")
    data = dict(value)
    _check(data, name, 1)
    return _dumped(data, f"{name} is", most)


def _flat(values: Sequence[Any]) -> str | None:
    """A few short plain values as JSON, a quarter of the time of the general way; None where that has to be gone."""
    texts: list[str] = []
    for value in values:
        kind = type(value)
        if kind is int and -SHORT < value < SHORT:
            texts.append(repr(value))
        elif kind is str and len(value) <= SHORT_TEXT and value.isascii() and "\x00" not in value:
            texts.append(encode_basestring_ascii(value))
        elif value is None:
            texts.append("null")
        else:
            return None
    return ",".join(texts)


def _dumped(data: object, what: str, most: int) -> str:
    text = _ENCODER.encode(data)  # in ASCII, so characters are bytes
    if len(text) > most:
        raise InvalidPayload(
            f"{what} {len(text)} bytes as JSON",
            why=f"at most {most} are stored",
            fix="store the data elsewhere and pass a reference",
        )
    return text


def encode_result(value: Any) -> str:
    """What a job returned, as text, by the same rules as its arguments.

    Raises:
        InvalidPayload: something in there that JSON cannot keep exactly, nesting above 64, or text above 1 MiB.
    """
    _check(value, "result", 1)
    return _dumped(value, "the result is", MAX_BYTES)


def decode_result(text: str) -> Any:
    """The value that ``encode_result`` made text of."""
    return json.loads(text)


def decode(text: str) -> tuple[list[Any], dict[str, Any]]:
    """The arguments that ``encode`` made text of.

    Raises:
        InvalidPayload: the text is not of that form (a row written by hand).
    """
    if text == _NOTHING:
        return [], {}
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
        raise InvalidPayload(
            f"{path[:PATH_MAX]}… is nested deeper than {MAX_DEPTH} levels",
            why="or it contains itself",
            fix="flatten it or pass a reference",
        )
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
            raise InvalidPayload(f"{path[:PATH_MAX]} is a {type(value).__name__}", fix=_hint(value))


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


def _hint(value: object) -> str:
    if is_dataclass(value):
        return "pass dataclasses.asdict(value)"
    if hasattr(value, "model_dump"):
        return 'pass value.model_dump(mode="json")'
    return _HINTS.get(type(value).__name__, _HINT)


_NOTHING = '{"args":[],"kwargs":{}}'
"""What most jobs carry; told by comparing, since parsing it takes as long as all else that is done for such a job."""
_HINT = "pass text, numbers, booleans, None, lists or dicts"
_HINTS = {
    "bytes": "encode it, with base64 for instance",
    "datetime": "pass .isoformat()",
    "date": "pass .isoformat()",
    "Decimal": "pass str(value)",
    "UUID": "pass str(value)",
    "timedelta": "pass .total_seconds()",
    "complex": "pass its two parts",
    "set": "pass a sorted list",
    "frozenset": "pass a sorted list",
}
