"""A log line is one line, whatever somebody else has put into it."""

from __future__ import annotations

import json
import logging

from pg_scheduler.cli import logs

_HOSTILE = '\n{"level": "CRITICAL"}\r\x1b[2J\u202e\x85\u2028'


def test_hostile_text_is_escaped_in_one_line_of_json() -> None:
    record = logging.LogRecord("shop", logging.INFO, __file__, 1, "job %s", (_HOSTILE,), None)

    line = logs._json().format(record)

    assert line.isascii()
    assert line.isprintable()
    assert json.loads(line)["message"] == f"job {_HOSTILE}"
