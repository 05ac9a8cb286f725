"""Logging of a command that runs for long: one handler on standard error.

Invariant: only the command line configures logging; the library only writes to its loggers.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Literal

from pg_scheduler.cli.extras import needs_extra

LogFormat = Literal["text", "json"]

TEXT_FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"


def configure(log_format: LogFormat, *, level: int = logging.INFO) -> None:
    """Send every logger's records to standard error, in UTC."""
    handler = logging.StreamHandler()
    handler.setFormatter(_json() if log_format == "json" else _UtcFormatter(TEXT_FORMAT))
    logging.basicConfig(level=level, handlers=[handler], force=True)


class _UtcFormatter(logging.Formatter):
    """Whatever the format, times are of no machine's zone."""

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802 (logging's name)
        del datefmt
        return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _json() -> logging.Formatter:
    with needs_extra("worker"):
        from pythonjsonlogger.json import JsonFormatter  # noqa: PLC0415 (an extra, and only for this format)

    class _JsonFormatter(_UtcFormatter, JsonFormatter):
        pass

    names = {"asctime": "time", "levelname": "level", "name": "logger"}
    return _JsonFormatter("%(asctime)s %(levelname)s %(name)s %(message)s", rename_fields=names)
