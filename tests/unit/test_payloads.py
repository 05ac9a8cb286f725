"""What a payload codec makes of arguments and results, and what becomes of those that it cannot read."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pg_scheduler._domain import codec
from pg_scheduler._domain.payloads import PLAIN, Payloads, require_codec
from pg_scheduler.errors import InvalidPayload, PayloadNotDecoded
from support.codecs import KeyedCodec

SECRET = "attorney-client"  # noqa: S105  what must not be seen
TEXT = codec.encode((SECRET,), {})
SEALED = Payloads(KeyedCodec())


class Failing:
    """A codec that says what it was given when it fails."""

    def __init__(self, answer: object = None) -> None:
        self._answer = answer

    def encode(self, data: bytes) -> Any:
        return self._answered(data)

    def decode(self, data: bytes) -> Any:
        return self._answered(data)

    def _answered(self, data: bytes) -> Any:
        if self._answer is None:
            raise RuntimeError(f"cannot do {data!r}, {SECRET}")
        return self._answer


@given(st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"])))
def test_sealed_arguments_are_opened_as_they_were(text: str) -> None:
    plain = codec.encode((text,), {"a": text})

    assert SEALED.opened(SEALED.sealed(plain)) == plain


def test_without_a_codec_nothing_is_changed() -> None:
    assert PLAIN.sealed(TEXT) is TEXT
    assert PLAIN.opened(TEXT) is TEXT
    assert PLAIN.resealed(TEXT, "before") is TEXT
    assert PLAIN.answering(TEXT, "1") == "1"


def test_what_is_sealed_is_json_that_hides_its_text() -> None:
    stored = SEALED.sealed(TEXT)

    assert json.loads(stored).keys() == {"args", "encoded"}
    assert SECRET not in stored


def test_releases_that_know_no_codec_refuse_what_is_sealed() -> None:
    """They read the arguments by what is ``codec.decode`` here, and would call the task without any if it let them."""
    with pytest.raises(InvalidPayload, match="another type"):
        codec.decode(SEALED.sealed(TEXT))


def test_what_says_the_same_stays_as_it_is_stored() -> None:
    before = SEALED.sealed(TEXT)

    assert SEALED.sealed(TEXT) != before
    assert SEALED.resealed(TEXT, before) is before
    assert SEALED.opened(SEALED.resealed("{}", before)) == "{}"


@pytest.mark.parametrize("before", [TEXT, Payloads(KeyedCodec(b"gone")).sealed(TEXT)], ids=["plain", "of another key"])
def test_what_is_stored_otherwise_is_sealed_anew(before: str) -> None:
    after = SEALED.resealed(TEXT, before)

    assert after != before
    assert SEALED.opened(after) == TEXT


def test_a_result_is_stored_as_the_arguments_were() -> None:
    assert SEALED.answering(TEXT, "1") == "1"
    assert SEALED.opened(SEALED.answering(SEALED.sealed(TEXT), "1")) == "1"


def test_a_result_that_looks_like_a_sealed_one_is_refused() -> None:
    with pytest.raises(InvalidPayload, match="form of encoded ones"):
        PLAIN.answering(TEXT, codec.encode_result({"args": None, "encoded": "eA=="}))


def test_size_counts_as_it_is_stored() -> None:
    fits = codec.encode(("x" * (codec.MAX_BYTES * 3 // 4 - 200),), {})
    too_large = codec.encode(("x" * (codec.MAX_BYTES * 3 // 4),), {})

    assert len(SEALED.sealed(fits)) <= codec.MAX_BYTES
    with pytest.raises(InvalidPayload, match=rf"it is \d{{7}} bytes .* {len(too_large)} before") as caught:
        SEALED.sealed(too_large)
    assert str(codec.MAX_BYTES) in str(caught.value)


@pytest.mark.parametrize(
    ("bad", "words"), [(Failing(), "raised RuntimeError"), (Failing("text"), "gave a str")], ids=["raises", "no bytes"]
)
def test_a_codec_that_fails_is_told_of_without_a_word_of_its_own(bad: Failing, words: str) -> None:
    payloads = Payloads(bad)

    with pytest.raises(InvalidPayload, match=rf"payload_codec\.encode {words}") as refused:
        payloads.sealed(TEXT)
    with pytest.raises(PayloadNotDecoded, match=rf"payload_codec\.decode {words}") as unread:
        payloads.opened(SEALED.sealed(TEXT))

    for caught in (refused, unread):
        assert SECRET not in str(caught.value)
        assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize(
    "stored",
    [
        Payloads(KeyedCodec(b"gone")).sealed(TEXT),
        SEALED.sealed(TEXT).replace('"}', '!"}'),
        '{"args":null,"encoded":""}',
        '{"args":null,"encoded":"',
        '{"args":null,"encoded":"' + "é" * 4 + '"}',
        SEALED.sealed("é"),
    ],
    ids=["another key", "not base64", "empty", "cut off", "no ASCII", "no JSON in ASCII"],
)
def test_what_nobody_here_has_sealed_is_told_of_with_the_way_out(stored: str) -> None:
    with pytest.raises(PayloadNotDecoded, match="former key"):
        SEALED.opened(stored)


def test_without_a_codec_sealed_arguments_are_refused_by_the_way_out() -> None:
    with pytest.raises(PayloadNotDecoded, match=r"no payload_codec\. give it the payload_codec of the one that"):
        PLAIN.opened(SEALED.sealed(TEXT))


class _Async(KeyedCodec):
    async def decode(self, data: bytes) -> bytes:  # type: ignore[override]  # what is to be refused
        return data


class _Half:
    def encode(self, data: bytes) -> bytes:
        return data


@pytest.mark.parametrize("none", [_Async(), _Half(), "rot13", len])
def test_a_codec_that_is_none_is_refused(none: Any) -> None:
    with pytest.raises(TypeError, match=r"payload_codec is a \w+: give an object with encode\(bytes\) -> bytes"):
        require_codec(none)
