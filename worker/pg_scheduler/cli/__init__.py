"""The command line ``pgscheduler``.

Invariant: importing this package imports nothing but the standard library, so that an install without the extra ``cli``
still answers with what to install.
"""

import os
import signal
import sys
from collections.abc import Sequence

EXIT_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> None:
    """Run ``pgscheduler``, with this process's arguments if none are given, and end the process with its exit code."""
    signal.signal(signal.SIGINT, _end_at_once)
    try:
        from pg_scheduler.cli.group import pgscheduler  # noqa: PLC0415 (click may be missing: that is what we answer)
    except ModuleNotFoundError as missing:
        if missing.name != "click":
            raise
        sys.stderr.write(
            "error PGS-007: the command line needs the package click, which is not installed\n"
            "  fix:   pip install 'pgscheduler[cli]'\n"
        )
        sys.exit(2)
    pgscheduler(arguments, prog_name="pgscheduler")


def _end_at_once(*_: object) -> None:
    """What Ctrl-C does until a command takes it over: some packages swallow KeyboardInterrupt as they are imported."""
    os._exit(EXIT_INTERRUPTED)
