"""The kubectl plugin: ``kubectl pgscheduler status | next | simulate | explain | trigger | backfill | rerun | …``.

It calls the user's own ``kubectl`` (``kubectl`` is the one module that does) with the user's own rights, and speaks
neither to the API server nor to the database itself. What it says and makes is decided in pure modules: ``overview``,
``ticks``, ``runs``, ``suspension`` and ``explanation`` take objects and give values.

Invariant: importing this package imports nothing but the standard library.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pg_scheduler.cli import run_program

if TYPE_CHECKING:
    from collections.abc import Sequence

    import click


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the plugin, with this process's arguments if none are given, and end the process with its exit code."""
    run_program(_plugin, arguments, prog_name="kubectl pgscheduler", extra="kubectl")


def _plugin() -> click.Command:
    from pg_scheduler_operator.plugin.group import plugin  # noqa: PLC0415 (click may be missing: that is answered)

    return plugin
