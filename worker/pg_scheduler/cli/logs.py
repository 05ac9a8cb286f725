"""Logging of a command that runs for long: one handler on standard error.

Invariants: only the command line configures logging; the library only writes to its loggers. Whatever somebody else has
put into a message, it is one line of at most ``MESSAGE_BYTES``, and no line of a traceback passes for one.
"""

from __future__ import annotations

import copy
import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from pg_scheduler.cli.extras import needs_extra
from pg_scheduler.printable import printable, shortened

if TYPE_CHECKING:
    from types import TracebackType

    ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]

LogFormat = Literal["text", "json"]

TEXT_FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
MESSAGE_BYTES = 2048
TRACEBACK_BYTES = 8192
"""Both together leave room below 16 KiB, where containers' logs cut a line in two."""
_MARGIN = "  | "


def configure(log_format: LogFormat, *, level: int = logging.INFO) -> None:
    """Send every logger's records to standard error, in UTC."""
    handler = logging.StreamHandler()
    handler.setFormatter(_json() if log_format == "json" else _TextFormatter(TEXT_FORMAT))
    logging.basicConfig(level=level, handlers=[handler], force=True)


class _UtcFormatter(logging.Formatter):
    """Whatever the format, times are of no machine's zone, and nothing is longer than it may be."""

    def format(self, record: logging.LogRecord) -> str:
        told = copy.copy(record)
        told.msg, told.args = self.message(record.getMessage()), None
        told.exc_text = None  # another handler's form of it
        return super().format(told)

    def message(self, text: str) -> str:
        """What is shown of a message."""
        return shortened(text, MESSAGE_BYTES)

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802 (logging's name)
        del datefmt
        return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def formatException(self, ei: ExcInfo) -> str:  # noqa: N802 (logging's name)
        return shortened(super().formatException(ei), TRACEBACK_BYTES)


class _TextFormatter(_UtcFormatter):
    """A line for each record; the lines of a traceback stand in from the margin."""

    def message(self, text: str) -> str:
        return super().message(printable(text))

    def formatException(self, ei: ExcInfo) -> str:  # noqa: N802 (logging's name)
        lines = logging.Formatter.formatException(self, ei).split("\n")
        return shortened("\n".join(f"{_MARGIN}{printable(line)}" for line in lines), TRACEBACK_BYTES)


def _json() -> logging.Formatter:
    with needs_extra("worker"):
        from pythonjsonlogger.json import JsonFormatter  # noqa: PLC0415 (an extra, and only for this format)

    class _JsonFormatter(_UtcFormatter, JsonFormatter):
        def format(self, record: logging.LogRecord) -> str:
            is_structured = isinstance(record.msg, dict)  # of code that logs fields; each of them is escaped as it is
            return JsonFormatter.format(self, record) if is_structured else super().format(record)

    names = {"asctime": "time", "levelname": "level", "name": "logger"}
    return _JsonFormatter("%(asctime)s %(levelname)s %(name)s %(message)s", rename_fields=names)
