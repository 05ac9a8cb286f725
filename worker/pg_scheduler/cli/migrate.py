"""The command ``pgscheduler migrate``."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import click

from pg_scheduler.cli.exit_codes import EXIT_NO
from pg_scheduler.cli.options import dsn_given, dsn_in_use, dsn_or_file_options
from pg_scheduler.cli.output import Output, output_option, print_records, progress
from pg_scheduler.control import Control

if TYPE_CHECKING:
    from pathlib import Path


@click.command(short_help="Make the tables or update them.")
@dsn_or_file_options
@click.option("--check", is_flag=True, help="Change nothing; exit 1 if migrations are pending.")
@click.option("--roles", is_flag=True, help="Then make the database's roles, or bring their rights to this release's.")
@click.option(
    "--row-level-security/--no-row-level-security",
    default=None,
    help="With --roles: a tenant's login sees that tenant's rows only, or all again. Left as it is unless given.",
)
@output_option
@click.pass_context
def migrate(
    context: click.Context,
    *,
    dsn: str | None,
    dsn_file: Path | None,
    allow_insecure: bool,
    check: bool,
    roles: bool,
    row_level_security: bool | None,
    output: Output,
) -> None:
    """Make the tables, or bring them to this release's schema.

    Safe to run from many processes at once. Prints the migrations that were applied (with --check: that are pending).

    The tables of the older package pg-scheduler 0.2.3 are taken over with their rows: stop its workers first. They are
    locked for about 8 seconds a million jobs.
    """
    if check and roles:
        raise click.UsageError("--check changes nothing: leave out --roles")
    if row_level_security is not None and not roles:
        raise click.UsageError("--row-level-security goes with --roles")
    with dsn_in_use():
        control = Control(dsn_given(context, dsn, dsn_file), allow_insecure=allow_insecure)
        work = _pending(control) if check else _migrate(control, roles=roles, row_level_security=row_level_security)
        names = asyncio.run(work)
    state = "pending" if check else "applied"
    print_records([{"migration": name, "state": state} for name in names], output)
    if not names:
        progress("the schema is up to date")
    context.exit(EXIT_NO if check and names else 0)


async def _migrate(control: Control, *, roles: bool, row_level_security: bool | None) -> list[str]:
    async with control:
        applied = list(await control.migrate(progress))
        if roles:
            await control.make_roles(row_level_security=row_level_security)
            progress("the roles are up to date")
        return applied


async def _pending(control: Control) -> list[str]:
    async with control:
        return list(await control.pending_migrations())
