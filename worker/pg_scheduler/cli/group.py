"""The group ``pgscheduler``: which commands there are, and how each is found.

Invariant: a command's module is imported only when the command is asked for or listed, and a command that cannot be
imported is still listed and says what to install.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points, version
from typing import TYPE_CHECKING, Any

import click

from pg_scheduler.cli.exit_codes import EXIT_INTERRUPTED
from pg_scheduler.cli.extras import MissingExtra, needs_extra
from pg_scheduler.cli.reporting import reported

if TYPE_CHECKING:
    from collections.abc import Mapping

COMMANDS_GROUP = "pgscheduler.commands"
"""Other packages name their click commands in this entry-point group."""

OWN_COMMANDS = {
    "maintenance": "pg_scheduler.cli.maintenance:maintenance",
    "migrate": "pg_scheduler.cli.migrate:migrate",
    "preview": "pg_scheduler.cli.preview:preview",
    "worker": "pg_scheduler.cli.worker:worker",
}


class ReportingGroup(click.Group):
    """The one place where errors leave a program."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (click.exceptions.Exit, click.exceptions.Abort):
            raise
        except KeyboardInterrupt:
            ctx.exit(EXIT_INTERRUPTED)
        except Exception as error:
            raise reported(error) from error


class CommandGroup(ReportingGroup):
    """Finds commands by entry point."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return sorted(_entry_points())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        entry = _entry_points().get(cmd_name)
        return None if entry is None else _load(entry)


def _entry_points() -> Mapping[str, EntryPoint]:
    own = {name: EntryPoint(name, value, COMMANDS_GROUP) for name, value in OWN_COMMANDS.items()}
    return {entry.name: entry for entry in entry_points(group=COMMANDS_GROUP)} | own


def _load(entry: EntryPoint) -> click.Command:
    try:
        with needs_extra("cli"):
            command = entry.load()
    except MissingExtra as missing:
        return _stand_in(entry.name, missing)
    if not isinstance(command, click.Command):
        raise TypeError(f"the entry point {entry.name} of {COMMANDS_GROUP} is no click command")
    return command


def _stand_in(name: str, missing: MissingExtra) -> click.Command:
    def answer() -> None:
        raise missing

    return click.Command(
        name,
        callback=answer,
        add_help_option=False,
        short_help=f"Not installed: {missing.fix}",
        context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    )


@click.group(
    cls=CommandGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 done, 1 the answer is no, 2 wrong usage, 3 cannot reach PostgreSQL or Kubernetes, "
    "130 interrupted.",
)
@click.version_option(version("pgscheduler"), prog_name="pgscheduler")
def pgscheduler() -> None:
    """Jobs and schedules as rows of PostgreSQL: run workers, migrate tables, try it out, operate it in Kubernetes."""
