"""New jobs as rows of COPY's binary format.

Invariant: a row stores what an INSERT of the same values would have stored; a column that every job leaves at its
default is not sent.

The driver has an encoder too. It asks the connection's codecs once for each value, and sends nothing before half a
megabyte is ready, so that the server waits while it works. Here a column whose jobs are all alike in it is encoded
once, and the first rows are on their way while the next are made.
"""

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import chain, repeat
from struct import Struct
from typing import Any, get_args, get_type_hints

from pg_scheduler._domain.drafts import Columns
from pg_scheduler._domain.jobs import NewJob

_Field = Callable[[Any], bytes]

_BEGIN = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
_END = b"\xff\xff"
_NULL = b"\xff\xff\xff\xff"
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_count, _int4, _int8, _float8, _bool = (Struct(f"!{form}").pack for form in ("h", "ii", "iq", "id", "i?"))


async def copy_rows(stretches: Iterable[Columns], columns: Sequence[str]) -> AsyncIterator[bytes]:
    """These columns of the jobs, a stretch at a time."""
    places = [(_FIELDS[name], NewJob._fields.index(name)) for name in columns]
    yield _BEGIN
    for values in stretches:
        parts = _parts(_count(len(columns)), [(field, values[place]) for field, place in places])
        yield b"".join(chain.from_iterable(zip(*parts, strict=True)))
    yield _END


def _parts(beginning: bytes, columns: Sequence[tuple[_Field, Sequence[object]]]) -> Iterator[Iterable[bytes]]:
    """Each row in parts: neighbours in which all rows are alike are one."""
    alike, rows = beginning, len(columns[0][1])
    for field, values in columns:
        first = values[0]
        if values.count(first) == rows:
            alike += _encoded(field, first)
        else:
            if alike:
                yield repeat(alike, rows)
            yield [_encoded(field, value) for value in values]
            alike = b""
    if alike:
        yield repeat(alike, rows)


def _encoded(field: _Field, value: object) -> bytes:
    return _NULL if value is None else field(value)


def _text(value: str) -> bytes:
    text = value.encode()
    return len(text).to_bytes(4, "big") + text


def _timestamptz(value: datetime) -> bytes:
    return _int8(8, (value - _EPOCH) // _MICROSECOND)


_FIELD_OF_TYPE: dict[type, _Field] = {
    str: _text,
    int: lambda value: _int4(4, value),
    float: lambda value: _float8(8, value),
    bool: lambda value: _bool(1, value),
    datetime: _timestamptz,
}


def _field_of(annotation: Any) -> _Field:
    kind, *_ = get_args(annotation) or (annotation,)
    return _FIELD_OF_TYPE[kind]


_FIELDS = {name: _field_of(annotation) for name, annotation in get_type_hints(NewJob).items()}
"""By column; JSON is text here."""
