"""The command ``pgscheduler maintenance``."""

from __future__ import annotations

import asyncio
import getpass
import socket
from typing import TYPE_CHECKING, Any, Literal

import click

from pg_scheduler.cli.exit_codes import EXIT_NO
from pg_scheduler.cli.options import dsn_in_use, dsn_option
from pg_scheduler.cli.output import Output, output_option, print_records, progress
from pg_scheduler.control import Control

if TYPE_CHECKING:
    from pg_scheduler.operations import Maintenance

Switch = Literal["on", "off", "status"]


@click.command(short_help="Let nobody claim jobs for a while.")
@click.argument("switch", type=click.Choice(["on", "off", "status"]))
@dsn_option
@click.option("--reason", default="", metavar="TEXT", help="With on: why, for those who look.")
@click.option("--restored", is_flag=True, help="With on: this database is a restored copy; fencing tokens jump ahead.")
@output_option
@click.pass_context
def maintenance(
    context: click.Context,
    dsn: str,
    *,
    allow_insecure: bool,
    switch: Switch,
    reason: str,
    restored: bool,
    output: Output,
) -> None:
    """Let nobody claim a job or plan a tick until it is off again: over restarts, and for workers that start meanwhile.

    Jobs that run go on to their end; new ones may be submitted and wait. Prints how it stands, and how many jobs still
    run. With status, exit code 1 means that it is on.
    """
    if switch != "on" and (reason or restored):
        raise click.UsageError("--reason and --restored go with on")
    with dsn_in_use():
        control = Control(dsn, allow_insecure=allow_insecure)
        state = asyncio.run(_switched(control, switch, reason=reason, restored=restored))
    print_records([_record(state)], output)
    if state.since is not None and state.running:
        progress(f"{state.running} jobs still run; ask again with: pgscheduler maintenance status")
    context.exit(EXIT_NO if switch == "status" and state.since is not None else 0)


async def _switched(control: Control, switch: Switch, *, reason: str, restored: bool) -> Maintenance:
    async with control:
        if switch == "on":
            await control.operations.begin_maintenance(by=_who(), reason=reason)
        if restored:
            await control.operations.skip_tokens()
        if switch == "off":
            await control.operations.end_maintenance()
        return await control.operations.maintenance()


def _who() -> str:
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # a pod's user has no name
        name = "somebody"
    return f"{name}@{socket.gethostname()}"


def _record(state: Maintenance) -> dict[str, Any]:
    return {
        "maintenance": "off" if state.since is None else "on",
        "since": None if state.since is None else state.since.isoformat(timespec="seconds"),
        "by": state.set_by,
        "reason": state.reason,
        "workers": state.workers,
        "running": state.running,
    }
