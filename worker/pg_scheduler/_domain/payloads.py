"""Arguments and results on their way to the table and back, where a user's codec makes something else of their JSON.

Invariants: who has a codec stores nothing of a caller's without it; what was stored without one is read as it is, so
that jobs of custom resources, of SQL and of older days run beside the others. No text of the codec's own errors is
passed on: it may hold what was to be hidden.
"""

import inspect
from base64 import b64decode, b64encode
from collections.abc import Callable

from pg_scheduler._domain.codec import MAX_BYTES
from pg_scheduler.errors import InvalidPayload, PayloadNotDecoded
from pg_scheduler.payload_codec import PayloadCodec

_HEAD, _TAIL = '{"args":null,"encoded":"', '"}'
"""The form of what a codec has made, which ``json`` keeps to the letter. Releases that know of no codec refuse
arguments of null; were there none, they would call the task without."""

_METHODS = ("encode", "decode")


class Payloads:
    """What stands between JSON text and its column; without a codec the text itself, at the cost of a look."""

    def __init__(self, codec: PayloadCodec | None = None) -> None:
        self._codec = codec

    def sealed(self, text: str) -> str:
        """What is stored of the arguments ``text``.

        Raises:
            InvalidPayload: the codec fails, or what it makes is above 1 MiB.
        """
        return text if self._codec is None else _sealed(self._codec, text)

    def resealed(self, text: str, before: str) -> str:
        """As ``sealed``; ``before``, what is stored now, if that says the same: a codec seldom repeats itself."""
        if self._codec is None:
            return text
        try:
            return before if _is_sealed(before) and self.opened(before) == text else self.sealed(text)
        except PayloadNotDecoded:  # of a key that is gone: from now on of the present one
            return self.sealed(text)

    def answering(self, payload: str, text: str) -> str:
        """What is stored of the result ``text`` of a job of these stored arguments: whoever can read those can read it.

        Raises:
            InvalidPayload: as ``sealed``, or the result looks like what a codec has made.
        """
        if _is_sealed(payload):
            return self.sealed(text)
        if _is_sealed(text):
            raise InvalidPayload("the result has the form of encoded ones", fix='name its key otherwise than "encoded"')
        return text

    def opened(self, stored: str) -> str:
        """The JSON text that is stored so.

        Raises:
            PayloadNotDecoded: it is encoded, and here is no codec, or one that cannot tell what it says.
        """
        if not stored.startswith(_HEAD):  # nearly every job of nearly everybody: not even a call
            return stored
        if self._codec is None:
            raise PayloadNotDecoded(
                "it is stored encoded, and this Scheduler has no payload_codec",
                fix="give it the payload_codec of the one that submitted the job, then run the job again",
            )
        return _opened(self._codec, stored)


PLAIN = Payloads()
"""Of those that have no codec."""


def require_codec(codec: PayloadCodec | None) -> PayloadCodec | None:
    """The same, checked.

    Raises:
        TypeError: it has not the two methods, or they are async.
    """
    methods = [] if codec is None else [getattr(codec, name, None) for name in _METHODS]
    if not all(callable(method) and not inspect.iscoroutinefunction(method) for method in methods):
        raise TypeError(
            f"payload_codec is a {type(codec).__name__}: give an object with encode(bytes) -> bytes and"
            " decode(bytes) -> bytes, neither of them async"
        )
    return codec


def _is_sealed(stored: str) -> bool:
    return stored.startswith(_HEAD)


def _sealed(codec: PayloadCodec, text: str) -> str:
    made, failure = _made(lambda: codec.encode(text.encode()))
    if made is None:
        raise InvalidPayload(f"payload_codec.encode {failure}", fix="it takes bytes and gives bytes; try it by itself")
    stored = f"{_HEAD}{b64encode(made).decode()}{_TAIL}"
    if len(stored) > MAX_BYTES:
        raise InvalidPayload(
            f"it is {len(stored)} bytes as payload_codec makes it, {len(text)} before",
            why=f"at most {MAX_BYTES} are stored",
            fix="store the data elsewhere and pass a reference",
        )
    return stored


def _opened(codec: PayloadCodec, stored: str) -> str:
    made, failure = _made(lambda: codec.decode(b64decode(stored[len(_HEAD) : -len(_TAIL)], validate=True)))
    if made is None or not made.isascii():
        raise PayloadNotDecoded(
            f"it is stored encoded, and payload_codec.decode {failure or 'gave what nobody encoded'}",
            why="the row was encoded otherwise, or changed since",
            fix="give this Scheduler a payload_codec that knows the former key too, then run the job again",
        )
    return made.decode()


def _made(function: Callable[[], object]) -> tuple[bytes | None, str]:
    """What a codec gives, or None and what it did instead, without a word of its own."""
    try:
        made = function()
    except Exception as error:  # noqa: BLE001  user code may raise anything
        return None, f"raised {type(error).__name__}"
    return (made, "") if isinstance(made, bytes) else (None, f"gave a {type(made).__name__}")
