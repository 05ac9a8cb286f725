"""A log line is one line, whatever somebody else has put into it."""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pg_scheduler.cli import logs
from pg_scheduler.cli.output import shown

_HOSTILE = '\n{"level": "CRITICAL"}\r\x1b[2J\u202e\x85\u2028'
_TEXT, _JSON = logs._TextFormatter(logs.TEXT_FORMAT), logs._json()


def record_of(message: object, *args: object, exc_info: Any = None) -> logging.LogRecord:
    return logging.LogRecord("shop", logging.INFO, __file__, 1, message, args, exc_info)


def raised(text: str) -> Any:
    try:
        raise ValueError(text)  # noqa: TRY301  it needs a traceback
    except ValueError:
        return sys.exc_info()


def test_hostile_text_is_escaped_in_one_line_of_json() -> None:
    line = _JSON.format(record_of("job %s", _HOSTILE))

    assert line.isascii()
    assert line.isprintable()
    assert json.loads(line)["message"] == f"job {_HOSTILE}"


def test_hostile_text_is_escaped_in_one_line_of_text() -> None:
    line = _TEXT.format(record_of("job %s", _HOSTILE))

    assert line.isprintable()
    assert line.endswith(r' INFO    shop: job \n{"level": "CRITICAL"}\r\x1b[2J\u202e\x85\u2028')


@pytest.mark.parametrize("formatter", [_TEXT, _JSON], ids=["text", "json"])
@given(message=st.text(min_size=1))
@example(message="half a pair \ud800")
def test_any_message_is_one_line_that_can_be_written(formatter: logging.Formatter, message: str) -> None:
    line = formatter.format(record_of(message.replace("%", "")))

    assert line.isprintable()
    line.encode()


def test_a_message_of_readable_text_is_left_as_it_is() -> None:
    assert _TEXT.format(record_of("Größe: %d €", 3)).endswith(" INFO    shop: Größe: 3 €")


@pytest.mark.parametrize("sign", ["x", "é", "\n", "\U0001f600"])
def test_a_long_message_shows_both_ends_and_its_size(sign: str) -> None:
    message = f"job {sign * 100_000} ended"

    of_text = _TEXT.format(record_of(message)).partition(" shop: ")[2]
    of_json = json.loads(_JSON.format(record_of(message)))["message"]

    for shown_of_it in (of_text, of_json):
        assert len(shown_of_it.encode()) <= logs.MESSAGE_BYTES
        assert shown_of_it.startswith("job ")
        assert " bytes) … " in shown_of_it
        assert shown_of_it.endswith(" ended")


def test_no_line_of_a_traceback_passes_for_a_record() -> None:
    forged = "2026-12-01T00:00:00.000Z CRITICAL shop: all lost"

    first, *lines = _TEXT.format(record_of("died", exc_info=raised(f"x\n{forged}{_HOSTILE}"))).split("\n")

    assert first.endswith(" shop: died")
    assert f"  | {forged}" in lines
    assert all(line.startswith("  | ") and line.isprintable() for line in lines)


@pytest.mark.parametrize("formatter", [_TEXT, _JSON], ids=["text", "json"])
def test_a_long_error_leaves_its_traceback_readable(formatter: logging.Formatter) -> None:
    told = formatter.format(record_of("died", exc_info=raised("\x1b" * 100_000 + "the end")))

    assert len(told) < 6 * (logs.MESSAGE_BYTES + logs.TRACEBACK_BYTES)
    assert "in raised" in told
    assert "the end" in told


def test_fields_that_code_logs_stay_fields_in_json() -> None:
    told = json.loads(_JSON.format(record_of({"order": 4711, "note": _HOSTILE})))

    assert (told["order"], told["note"]) == (4711, _HOSTILE)


def test_a_cell_of_a_table_sends_nothing_to_the_terminal() -> None:
    assert shown(f"job{_HOSTILE}") == r'job {"level": "CRITICAL"} \x1b[2J\u202e'
