"""The command ``pgscheduler worker``: what a person may say, and nothing of how it is done."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from pg_scheduler.cli import logs
from pg_scheduler.cli.options import (
    Seconds,
    dsn_given,
    dsn_in_use,
    dsn_or_file_options,
    http_address,
    log_format_option,
)
from pg_scheduler.cli.retention import RETENTION_OPTIONS, retention_given, retention_options
from pg_scheduler.cli.worker_process import WorkerSettings, run

if TYPE_CHECKING:
    from collections.abc import Sequence

FACTORY_DECIDES = (
    *("direct_dsn", "tenant", "queues", "slots", "lease_seconds", "max_stall_seconds", "shutdown_seconds", "migrates"),
    *RETENTION_OPTIONS,
)


def _split(context: click.Context, parameter: click.Parameter, value: str) -> tuple[str, ...]:
    del context, parameter
    names = tuple(name.strip() for name in value.split(","))
    if not all(names):
        raise click.BadParameter("give names separated by commas, such as default,mail")
    return names


def _require_no_option_of_the_factory(context: click.Context, apps: Sequence[str]) -> None:
    """A factory makes its Scheduler as it likes: an option that could not reach it must not look as if it did."""
    given = [name for name in FACTORY_DECIDES if context.get_parameter_source(name) is ParameterSource.COMMANDLINE]
    factory = next((app for app in apps if ":" in app), None)
    if given and factory:
        option = next(p.opts[0] for p in context.command.params if p.name == given[0])
        raise click.UsageError(f"{option} is for {factory} to say: the factory makes the Scheduler")


@click.command()
@click.argument("apps", nargs=-1, metavar="[APP]...")
@dsn_or_file_options
@click.option(
    "--direct-dsn",
    envvar="PGSCHEDULER_DIRECT_DSN",
    show_envvar=True,
    metavar="URL",
    help="Behind a pooler: the database past it, for LISTEN and migrations.",
)
@click.option(
    "--tenant", envvar="PGSCHEDULER_TENANT", show_envvar=True, default="", help="Whose jobs to run: a namespace."
)
@click.option(
    "--queues",
    envvar="PGSCHEDULER_QUEUES",
    show_envvar=True,
    default="default",
    show_default=True,
    callback=_split,
    metavar="A,B",
    help="Queues to serve.",
)
@click.option(
    "--slots",
    type=click.IntRange(1, 100_000),
    envvar="PGSCHEDULER_SLOTS",
    show_envvar=True,
    default=25,
    show_default=True,
    help="Jobs that run at once.",
)
@click.option(
    "--lease",
    "lease_seconds",
    type=Seconds(1, 86_400),
    envvar="PGSCHEDULER_LEASE",
    show_envvar=True,
    default=60,
    show_default=True,
    help="How long the others wait before they take over the jobs of this worker once it is silent.",
)
@click.option(
    "--max-stall",
    "max_stall_seconds",
    type=Seconds(1, 86_400),
    envvar="PGSCHEDULER_MAX_STALL",
    show_envvar=True,
    default=300,
    show_default=True,
    help="How long a job may block the event loop; then this process ends with exit code 70.",
)
@click.option(
    "--shutdown-timeout",
    "shutdown_seconds",
    type=Seconds(0, 86_400),
    envvar="PGSCHEDULER_SHUTDOWN_TIMEOUT",
    show_envvar=True,
    default=25,
    show_default=True,
    help="How long running jobs may take to end after SIGTERM; the rest are handed back.",
)
@retention_options
@click.option(
    "--migrate/--no-migrate",
    "migrates",
    default=True,
    envvar="PGSCHEDULER_MIGRATE",
    show_envvar=True,
    help="Make the tables or update them at the start, or wait until somebody has, by `pgscheduler migrate`.",
)
@click.option(
    "--database-wait",
    "database_wait_seconds",
    type=Seconds(0, 3600),
    envvar="PGSCHEDULER_DATABASE_WAIT",
    show_envvar=True,
    default=60,
    show_default=True,
    help="How long to try to reach the database at start; then exit 3.",
)
@click.option(
    "--http",
    callback=http_address,
    envvar="PGSCHEDULER_HTTP",
    show_envvar=True,
    metavar="HOST:PORT",
    help="Serve /livez, /readyz and /metrics there; port 0 takes a free one, which the log names. Off unless given.",
)
@log_format_option
@click.option("--until-stdin-closes", is_flag=True, hidden=True, help="End when the parent process is gone.")
@click.pass_context
def worker(context: click.Context, /, log_format: logs.LogFormat, **options: Any) -> None:
    """Run jobs until told to stop.

    APP is a module (shop.tasks), a path that ends in .py, or module:attribute naming a function that takes a connection
    pool and returns a Scheduler. A module registers its functions marked @task or @periodic and every public async def
    at its top level. Without an APP the worker knows only the task pgscheduler.ping, which every worker knows.

    SIGTERM or Ctrl-C: claim nothing more, let running jobs end, hand back the rest. A second one ends it at once.
    """
    dsn = dsn_given(context, options.pop("dsn"), options.pop("dsn_file"))
    allow_insecure = options.pop("allow_insecure")
    _require_no_option_of_the_factory(context, options["apps"])
    retention = retention_given(options)
    logs.configure(log_format)
    with dsn_in_use():
        settings = WorkerSettings.secured(dsn, allow_insecure=allow_insecure, retention=retention, **options)
        context.exit(run(settings))
