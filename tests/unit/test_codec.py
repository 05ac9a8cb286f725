import json
import math
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pg_scheduler._domain import codec
from pg_scheduler.errors import InvalidPayload

storable_text = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=20)
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | storable_text
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(storable_text, inner, max_size=4)
)


@given(st.lists(values, max_size=5), st.dictionaries(storable_text, values, max_size=5))
def test_codec_gives_back_what_it_took(args: list[Any], kwargs: dict[str, Any]) -> None:
    assert codec.decode(codec.encode(args, kwargs)) == (args, kwargs)


def test_codec_keeps_the_sign_of_zero_and_long_numbers_exactly() -> None:
    args, _ = codec.decode(codec.encode([-0.0, 10**400, 1e16], {}))

    assert math.copysign(1, args[0]) == -1
    assert args[1] == 10**400
    assert isinstance(args[2], float)


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth - 1):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (math.nan, "JSON has no such number"),
        (math.inf, "JSON has no such number"),
        ("a\x00b", "NUL"),
        ("\ud800", "surrogate"),
        (b"raw", "base64"),
        ({1, 2}, "sorted list"),
        (1j, "complex"),
        (Decimal(1), "str(value)"),
        (uuid4(), "str(value)"),
        (datetime.now(UTC), "isoformat"),
        (object(), "object"),
        ({1: "a", "1": "b"}, "alike"),
        ({True: "a"}, "key of type bool"),
        ({(1, 2): "a"}, "key of type tuple"),
        (10**1001, "digits"),
        (nested(64), "deeper than 64"),
    ],
)
def test_codec_refuses_what_json_cannot_keep(value: Any, words: str) -> None:
    with pytest.raises(InvalidPayload, match=r"args\[0\]") as caught:
        codec.encode([value], {})

    assert words in str(caught.value)


def test_codec_refuses_a_circle() -> None:
    circle: list[Any] = []
    circle.append(circle)

    with pytest.raises(InvalidPayload, match="deeper"):
        codec.encode(circle, {})


def test_codec_accepts_the_deepest_nesting_it_promises() -> None:
    args, _ = codec.decode(codec.encode([nested(63)], {}))

    assert args == [nested(63)]


def test_codec_names_both_sizes_of_a_payload_that_is_too_large() -> None:
    overhead = len(codec.encode([""], {}))
    codec.encode(["x" * (codec.MAX_BYTES - overhead)], {})

    with pytest.raises(InvalidPayload, match=rf"{codec.MAX_BYTES + 1} bytes.*{codec.MAX_BYTES} are stored"):
        codec.encode(["x" * (codec.MAX_BYTES - overhead + 1)], {})


@pytest.mark.parametrize("text", ["[]", "1", "null", "{", '{"args": 1}', '{"kwargs": []}'])
def test_codec_refuses_rows_written_by_hand_in_another_form(text: str) -> None:
    with pytest.raises(InvalidPayload):
        codec.decode(text)


@given(st.text())
def test_codec_decodes_or_refuses_any_text(text: str) -> None:
    try:
        args, kwargs = codec.decode(text)
    except InvalidPayload:
        return
    assert isinstance(json.loads(text), dict)
    assert isinstance(args, list)
    assert isinstance(kwargs, dict)


@pytest.mark.parametrize("data", [None, [], {"arg": []}, "x"])
def test_task_data_of_another_form_is_refused(data: Any) -> None:
    with pytest.raises(InvalidPayload, match="task_data"):
        codec.parts_of(data)
