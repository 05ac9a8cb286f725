"""The command line ``pgscheduler``.

Invariant: importing this package imports nothing but the standard library, so that an install without the extra ``cli``
still answers with what to install.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

from pg_scheduler.cli.exit_codes import EXIT_INTERRUPTED, EXIT_USAGE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import click


def main(arguments: Sequence[str] | None = None) -> None:
    """Run ``pgscheduler``, with this process's arguments if none are given, and end the process with its exit code."""
    run_program(_pgscheduler, arguments, prog_name="pgscheduler", extra="cli")


def run_program(
    load: Callable[[], click.Command], arguments: Sequence[str] | None, *, prog_name: str, extra: str
) -> None:
    """Run the command that ``load`` imports and end the process; without click, say which extra to install."""
    signal.signal(signal.SIGINT, _end_at_once)
    try:
        command = load()
    except ModuleNotFoundError as missing:
        if missing.name != "click":
            raise
        sys.stderr.write(
            "error PGS-007: the command line needs the package click, which is not installed\n"
            f"  fix:   pip install 'pgscheduler[{extra}]'\n"
        )
        sys.exit(EXIT_USAGE)
    command(arguments, prog_name=prog_name)


def _pgscheduler() -> click.Command:
    from pg_scheduler.cli.group import pgscheduler  # noqa: PLC0415 (click may be missing: that is what we answer)

    return pgscheduler


def _end_at_once(*_: object) -> None:
    """What Ctrl-C does until a command takes it over: some packages swallow KeyboardInterrupt as they are imported."""
    os._exit(EXIT_INTERRUPTED)
