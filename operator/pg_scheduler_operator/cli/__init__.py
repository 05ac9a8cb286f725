"""The operator's part of the command line: ``operator crds demo dev``.

Invariant: importing this module imports click and nothing heavier; each command imports what it runs, and says what to
install if that is missing.
"""

# ruff: noqa: PLC0415 (a command imports what it runs when it runs: kopf alone takes half a second)

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pg_scheduler.cli.extras import needs_extra
from pg_scheduler.cli.options import log_format_option
from pg_scheduler.cli.reporting import unreachable

if TYPE_CHECKING:
    from pg_scheduler.cli.logs import LogFormat

FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command(short_help="Run the Kubernetes operator.")
@log_format_option
def operator(log_format: LogFormat) -> None:
    """Run the Kubernetes operator: custom resources become rows, and rows become statuses.

    Settings are variables. PGSCHEDULER_DSN: the database, as postgresql://user:password@host:5432/database.
    PGSCHEDULER_CLUSTER_NAME: stored in each row, another for each cluster of one database; "default" if unset.
    PGSCHEDULER_WATCH_NAMESPACES: namespaces separated by commas; all if unset.
    """
    with needs_extra("operator"):
        from pg_scheduler.cli import logs
        from pg_scheduler.cli.stop_signals import StopSignals
        from pg_scheduler_operator import app, settings
        from pg_scheduler_operator.errors import KubernetesNotConfigured, KubernetesUnreachable
    logs.configure(log_format)

    async def serve() -> int:
        signals = StopSignals()
        signals.install()  # until kopf takes them over: process 1 of a pod has no handlers of its own
        await signals.unless_asked_to_end(app.run_operator(settings.load()))
        return signals.exit_code

    try:
        sys.exit(asyncio.run(serve()))
    except (KubernetesNotConfigured, KubernetesUnreachable) as error:
        raise unreachable(error) from error


@click.command(short_help="Print the custom resource definitions.")
def crds() -> None:
    """Print the custom resource definitions, for kubectl apply --server-side -f -."""
    with needs_extra("operator"):
        from pg_scheduler_operator import crdgen
    click.echo(crdgen.render(), nl=False)


@click.command(short_help="Try it: PostgreSQL, two workers, example manifests.")
@click.argument("manifests", type=FOLDER, required=False)
@click.option("--app", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="File of the tasks.")
@click.option("--workers", type=click.IntRange(1, 64), default=2, show_default=True, help="Worker processes.")
@click.option(
    "--timeout",
    "timeout_seconds",
    type=click.FloatRange(1, 3600),
    default=60,
    show_default=True,
    metavar="SECONDS",
    help="Without a terminal: the longest time after the first job.",
)
@click.pass_context
def demo(
    context: click.Context, manifests: Path | None, *, app: Path | None, workers: int, timeout_seconds: float
) -> None:
    """Try it: a PostgreSQL of its own, two workers, and the MANIFESTS of a folder. Nothing is left running.

    Without MANIFESTS it takes the examples that come with the package. The tasks are in the file tasks.py beside the
    folder, unless --app names another.

    On a terminal it shows a live table until q or Ctrl-C. Otherwise it prints a line for each change of state and ends
    by itself: exit 0 when every one-off job is Complete and every short periodic one has run three times, exit 1 with
    what is missing.
    """
    with needs_extra("demo"):
        from pg_scheduler_operator.cli import examples
        from pg_scheduler_operator.cli.demo import DemoSettings, run_demo
    folder = manifests or examples.manifests()
    settings = DemoSettings(
        manifests=folder,
        app=_existing(app or examples.app_beside(folder)),
        workers=workers,
        timeout_seconds=timeout_seconds,
    )
    context.exit(asyncio.run(run_demo(settings)))


@click.command(short_help="Develop tasks and manifests without a cluster.")
@click.argument("app")
@click.option("--manifests", type=FOLDER, help="Folder of manifests to apply, again after every edit.")
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".pgscheduler"),
    show_default=True,
    help="Where the database stays for the next start.",
)
@click.pass_context
def dev(context: click.Context, app: str, *, manifests: Path | None, data_dir: Path) -> None:
    """Develop tasks without a cluster: a PostgreSQL that keeps its data, and a worker that restarts when APP changes.

    APP is a module, module:attribute, or a path that ends in .py, as for pgscheduler worker. The manifests of the
    folder become rows as in Kubernetes, within a second of each edit; the status of each is written beside it, as
    NAME.status.yaml.
    """
    with needs_extra("demo"):
        from pg_scheduler_operator.cli.dev import DevSettings, run_dev
    context.exit(asyncio.run(run_dev(DevSettings(app=app, manifests=manifests, data_dir=data_dir))))


def _existing(app: Path) -> Path:
    if not app.is_file():
        raise click.UsageError(f"no file {app}: name the file of the tasks with --app")
    return app
