"""Files of manifests, read as kubectl reads them.

Invariant: a text means here what it means after ``kubectl create``: plain scalars follow the YAML library of kubectl
(1.1 with its own mind about numbers), keys become text, and numbers what JSON in the API server makes of them. An error
names a place and never quotes the file.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import yaml

from pg_scheduler_operator.errors import InvalidManifest
from pg_scheduler_operator.resources import API_VERSION, GROUP, Key, Kind

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

DEFAULT_NAMESPACE: Final = "default"

_WORDS: Final[Mapping[str, bool | None]] = (
    dict.fromkeys(["y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"], True)
    | dict.fromkeys(["n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"], False)
    | dict.fromkeys(["", "~", "null", "Null", "NULL"], None)
)
_NO_NUMBERS: Final = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_INTEGER: Final = re.compile(r"[-+]?(0[bB][01]+|0[oO]?[0-7]+|0[xX][0-9a-fA-F]+|0|[1-9][0-9]*)")
_FLOAT: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_INT64: Final = range(-(2**63), 2**63)
_UINT64_END: Final = 2**64
_EXPONENT_FROM: Final = 1e21
_DIGITS_MAX: Final = len("-0b") + 64
_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_PLAIN: Final = "tag:pgscheduler.io,2026:plain"
_TEXT: Final = "tag:yaml.org,2002:str"
_MERGE: Final = "tag:yaml.org,2002:merge"


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """One object as a file wants it."""

    key: Key
    spec: Any
    annotations: Mapping[str, Any] = field(default_factory=dict)


def read_manifests(path: Path) -> list[Manifest]:
    """The objects of our kinds in a file; those of other groups are passed over.

    Raises:
        InvalidManifest: the file cannot be read, or holds an object of ours that nobody can serve.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidManifest("the file cannot be read", why=type(error).__name__) from None
    return [manifest for body in _objects(load(text)) if (manifest := _manifest(body)) is not None]


def load(text: str) -> list[Any]:
    """The documents of a text, as JSON values.

    Raises:
        InvalidManifest: it is no YAML, or YAML that JSON cannot say.
    """
    try:
        return [_jsonable(document) for document in yaml.load_all(text, Loader=_KubectlLoader)]
    except InvalidManifest:
        raise
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = "" if mark is None else f"line {mark.line + 1}, column {mark.column + 1}"
        raise InvalidManifest("the file is no valid YAML", why=place) from None
    except (
        yaml.YAMLError,
        RecursionError,
        ValueError,
        LookupError,
        AttributeError,
    ) as error:  # a tag that does not fit
        raise InvalidManifest("the file is no valid YAML", why=type(error).__name__) from None


def plain(text: str) -> Any:
    """What a plain scalar means: no dates, no base 60."""
    if text in _WORDS:
        return _WORDS[text]
    if _NO_NUMBERS.fullmatch(text):
        return float(text.replace(".", "", 1))
    if text[0] not in "+-.0123456789":
        return text
    digits = text if text[0] == "." else text.replace("_", "")
    if len(digits) <= _DIGITS_MAX and _INTEGER.fullmatch(digits) and _INT64.start <= _integer(digits) < _UINT64_END:
        return _integer(digits)
    if _FLOAT.fullmatch(digits) and math.isfinite(float(digits)):
        return float(digits)
    return text


def _integer(digits: str) -> int:
    sign, magnitude = (digits[0], digits[1:]) if digits[0] in "+-" else ("", digits)
    is_old_octal = magnitude.isdecimal() and len(magnitude) > 1 and magnitude[0] == "0"
    return int(sign + (f"0o{magnitude[1:]}" if is_old_octal else magnitude), 0)


class _KubectlLoader(yaml.SafeLoader):
    """Plain scalars as ``plain`` has them."""

    def resolve(self, kind: Any, value: Any, implicit: Any) -> Any:
        if kind is not yaml.ScalarNode or not implicit[0]:
            return super().resolve(kind, value, implicit)  # type: ignore[no-untyped-call]
        if value == "<<":
            return _MERGE
        return _TEXT if plain(value) is value else _PLAIN


def _construct_plain(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> Any:
    del loader
    return plain(node.value)


_KubectlLoader.add_constructor(_PLAIN, _construct_plain)


def _jsonable(value: Any) -> Any:
    match value:
        case None | bool() | str():
            return value
        case int() | float():
            return _number(value)
        case list():
            return [_jsonable(item) for item in value]
        case dict():
            return {_text_key(key): _jsonable(item) for key, item in value.items()}
        case _:
            raise InvalidManifest(f"the file holds a {type(value).__name__}", fix="JSON has no such value: write text")


def _number(value: float) -> float:
    """Integers of 64 bits stay, all else is a float; of those, whole ones are written without exponent below 1e21."""
    if not math.isfinite(value):
        raise InvalidManifest(f"the file holds the number {value}", fix="JSON has no such number: write null or text")
    if isinstance(value, int) and value in _INT64:
        return value
    double = float(value)
    return int(Decimal(repr(double))) if double.is_integer() and abs(double) < _EXPONENT_FROM else double


def _text_key(key: Any) -> str:
    match key:
        case str():
            return key
        case bool():
            return "true" if key else "false"
        case int() | float():
            return str(_number(key))
        case _:
            raise InvalidManifest(f"the file holds a key of type {type(key).__name__}", fix="write the key as text")


def _objects(documents: list[Any]) -> Iterator[Mapping[str, Any]]:
    for document in documents:
        if document is None:
            continue
        if not isinstance(document, dict):
            raise InvalidManifest(
                f"the file holds a {type(document).__name__}", fix="a manifest is a map with kind and metadata"
            )
        if document.get("kind") == "List":
            yield from _objects(list(document.get("items") or []))
        else:
            yield document


def _manifest(body: Mapping[str, Any]) -> Manifest | None:
    kind = _kind_of(body)
    if kind is None:
        return None
    metadata = _mapping(body.get("metadata"))
    return Manifest(
        key=_key_of(kind, metadata), spec=body.get("spec"), annotations=_mapping(metadata.get("annotations"))
    )


def _kind_of(body: Mapping[str, Any]) -> Kind | None:
    """None of an object that is of no concern here."""
    api_version, kind = body.get("apiVersion"), body.get("kind")
    if not isinstance(api_version, str) or not isinstance(kind, str):
        raise InvalidManifest("an object has no apiVersion or no kind", fix=f"begin with apiVersion: {API_VERSION}")
    if api_version.partition("/")[0] != GROUP:
        return None
    if api_version != API_VERSION or kind not in set(Kind):
        raise InvalidManifest(
            f"nobody serves {kind[:63]} of {api_version[:63]}", fix=f"use {API_VERSION}: {', '.join(Kind)}"
        )
    return Kind(kind)


def _key_of(kind: Kind, metadata: Mapping[str, Any]) -> Key:
    name, namespace = metadata.get("name"), metadata.get("namespace") or DEFAULT_NAMESPACE
    if not all(isinstance(value, str) and _NAME.fullmatch(value) for value in (name, namespace)):
        raise InvalidManifest(
            f"a {kind} has no valid name or namespace", fix="lower case letters, digits, - and . only"
        )
    return Key(kind=kind, namespace=namespace, name=str(name))


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
