"""The operator's part of the command line: ``operator crds demo dev simulate lint sweep``.

Invariant: importing this module imports click and nothing heavier; each command imports what it runs, and says what to
install if that is missing.
"""

# ruff: noqa: PLC0415 (a command imports what it runs when it runs: kopf alone takes half a second)

from __future__ import annotations

import asyncio
import atexit
import gc
import os
import sys
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pg_scheduler.cli.exit_codes import EXIT_NO, EXIT_TRY_AGAIN
from pg_scheduler.cli.extras import needs_extra
from pg_scheduler.cli.instants import instant_of
from pg_scheduler.cli.options import dsn_in_use, dsn_option, http_address, log_format_option
from pg_scheduler.cli.output import output_option, print_records, progress
from pg_scheduler.cli.reporting import unreachable
from pg_scheduler_operator.cli.parameters import (
    duration_option,
    files_argument,
    horizon_of,
    picture_of,
    since_option,
    slots_option,
    topics_of,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pg_scheduler.cli.logs import LogFormat
    from pg_scheduler.cli.output import Output
    from pg_scheduler_operator.cli.parameters import Topic

FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command(short_help="Run the Kubernetes operator.")
@click.option(
    "--http",
    callback=http_address,
    envvar="PGSCHEDULER_HTTP",
    show_envvar=True,
    metavar="HOST:PORT",
    help="Serve /livez, /readyz and /metrics there; port 0 takes a free one, which the log names. Off unless given.",
)
@click.option(
    "--adopt-by-name",
    is_flag=True,
    help="After a restore: take over the rows of objects of the same namespace and name, ended ones too.",
)
@log_format_option
def operator(*, http: tuple[str, int] | None, adopt_by_name: bool, log_format: LogFormat) -> None:
    """Run the Kubernetes operator: custom resources become rows, and rows become statuses.

    Settings are variables, PGSCHEDULER_DSN first of all: the database, as postgresql://user:password@host:5432/database.
    The others are listed in docs/reference/operator-settings.md.

    Several operators may run: one holds the Lease and serves, the others stand by. One that loses it ends with exit
    code 75.
    """
    with needs_extra("operator"):
        from pg_scheduler.cli import logs
        from pg_scheduler.cli.loops import loop_factory
        from pg_scheduler.cli.stop_signals import StopSignals
        from pg_scheduler_operator import app, settings
        from pg_scheduler_operator.errors import KubernetesNotConfigured, KubernetesUnreachable
    logs.configure(log_format)
    # what is then garbage is the whole process: looking through all that kopf and the client have loaded costs seconds
    atexit.register(gc.freeze)
    given = {"adopt_by_name": True} if adopt_by_name else {}

    async def serve() -> int:
        signals = StopSignals()
        signals.install()  # process 1 of a pod has no handlers of its own
        on_lost = partial(os._exit, EXIT_TRY_AGAIN)
        # kopf takes the signals over when it begins, and gives five seconds to what it hangs on when it ends by one
        work = app.run_operator(settings.load(**given), on_lost=on_lost, http=http, ready=signals.install)
        await signals.unless_asked_to_end(work)
        return signals.exit_code

    try:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            sys.exit(runner.run(serve()))
    except (KubernetesNotConfigured, KubernetesUnreachable) as error:
        raise unreachable(error) from error


@click.command(short_help="Show or confirm a sweep that is held.")
@dsn_option
@click.option("--confirm", is_flag=True, help="Agree: the operator withdraws those rows, and no more than are shown.")
@click.option("--cluster", metavar="NAME", help="Of this cluster only.")
@output_option
@click.pass_context
def sweep(
    context: click.Context, dsn: str, *, allow_insecure: bool, confirm: bool, cluster: str | None, output: Output
) -> None:
    """Show the sweeps that operators hold: too many objects are gone at once for their rows to be withdrawn unasked.

    Exit code 1 means that one is held and not confirmed.
    """
    from pg_scheduler.control import Control
    from pg_scheduler_operator.cli.sweeps import held_sweeps, record

    with dsn_in_use():
        control = Control(dsn, allow_insecure=allow_insecure)
        sweeps = asyncio.run(held_sweeps(control, cluster=cluster, confirm=confirm))
    print_records([record(sweep) for sweep in sweeps], output)
    if not sweeps:
        progress("no sweep is held")
    context.exit(0 if all(sweep.is_confirmed for sweep in sweeps) else EXIT_NO)


@click.command(short_help="Print the custom resource definitions.")
@click.option(
    "--format",
    "file_format",
    type=click.Choice(["crd", "json-schema"]),
    default="crd",
    show_default=True,
    help="For kubectl, or JSON schemas for editors.",
)
@click.option(
    "--output-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write a file for each kind there, and print nothing; JSON schemas need it.",
)
def crds(*, file_format: str, output_dir: Path | None) -> None:
    """Print the custom resource definitions, for kubectl apply --server-side -f -."""
    with needs_extra("operator"):
        from pg_scheduler_operator import crdgen, editor_schemas
    if output_dir is None:
        if file_format != "crd":
            raise click.UsageError("JSON schemas are files: say where with --output-dir")
        click.echo(crdgen.render(), nl=False)
        return
    output_dir.mkdir(parents=True, exist_ok=True)
    for name, text in (crdgen if file_format == "crd" else editor_schemas).files().items():
        (output_dir / name).write_text(text, encoding="utf-8")
        progress(f"written: {output_dir / name}")


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
        from pg_scheduler_operator.cli.demonstrating import DemoSettings, run_demo
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
        from pg_scheduler_operator.cli.developing import DevSettings, run_dev
    context.exit(asyncio.run(run_dev(DevSettings(app=app, manifests=manifests, data_dir=data_dir))))


@click.command(
    short_help="Show what schedules will do.",
    epilog="Example: pgscheduler simulate manifests --from 2026-03-08T00:00Z --to 2026-03-09T00:00Z --slots 25",
)
@files_argument
@since_option
@click.option("--to", "until", callback=instant_of, metavar="INSTANT", help="When it ends; a day later if not given.")
@slots_option
@duration_option
@click.option("--runs", is_flag=True, help="List every run, too.")
@click.option(
    "--plot",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    callback=picture_of,
    help="Draw slots in use and lateness into this file: svg or png.",
)
@output_option
def simulate(
    *,
    files: Sequence[Path],
    since: datetime | None,
    until: datetime | None,
    slots: int | None,
    durations: Mapping[str, float],
    runs: bool,
    plot: Path | None,
    output: Output,
) -> None:
    """Show what the schedules in manifests will do: runs, skips, how late, how many at a time.

    FILE is a file of manifests or a folder of them. The decisions are those of the workers, on a virtual clock: nothing
    is connected and nothing is run. A run takes what the object's annotation pgscheduler.io/expected-duration-seconds
    says, else a second. Intervals begin when the simulation does.
    """
    with needs_extra("demo"):
        from pg_scheduler_operator.cli.scenes import Wish
        from pg_scheduler_operator.cli.simulating import show, simulate_files
    if plot is not None:
        with needs_extra("dev"):
            from pg_scheduler_operator.cli.plot import draw
    begins_at = since or _this_second()
    wish = Wish(begins_at=begins_at, ends_at=until or begins_at + timedelta(days=1), slots=slots, durations=durations)
    played = simulate_files(files, wish, runs=runs, occupancy=plot is not None)
    show(played, wish, output, runs=runs)
    if plot is not None:
        draw(played, wish, plot)
        progress(f"drawn: {plot}")


@click.command(
    short_help="Find what is wrong with schedules.",
    epilog="Example: pgscheduler lint manifests --slots 25 --fail-on overlap,deadline,capacity",
)
@files_argument
@click.option(
    "--horizon",
    default="30d",
    show_default=True,
    callback=horizon_of,
    metavar="TIME",
    help="How far to look ahead, such as 12h, 30d, 8w.",
)
@since_option
@slots_option
@duration_option
@click.option(
    "--fail-on",
    default="overlap,deadline,capacity",
    show_default=True,
    callback=topics_of,
    metavar="TOPICS",
    help="Topics whose findings are exit code 1, separated by commas; what is invalid always is.",
)
@output_option
@click.pass_context
def lint(
    context: click.Context,
    *,
    files: Sequence[Path],
    horizon: timedelta,
    since: datetime | None,
    slots: int | None,
    durations: Mapping[str, float],
    fail_on: Sequence[Topic],
    output: Output,
) -> None:
    """Find what is wrong with the schedules in manifests, or will be, one line for each finding.

    FILE is a file of manifests or a folder of them. Topics: invalid (refused), never (no run any more), overlap,
    deadline (late starts), capacity (more slots wanted than there are), clocks (nights on which they change),
    kubernetes (a CronJob reads the rule otherwise), arguments (JSON may change them).

    Exit code 1 means that there is a finding of --fail-on; what is invalid always counts.
    """
    with needs_extra("demo"):
        from pg_scheduler_operator.cli.linting import fails, lint_files, show
        from pg_scheduler_operator.cli.scenes import Wish
    begins_at = since or _this_second()
    wish = Wish(begins_at=begins_at, ends_at=begins_at + horizon, slots=slots, durations=durations)
    linted = lint_files(files, wish)
    show(linted, output)
    if fails(linted.findings, fail_on):
        context.exit(EXIT_NO)


def _this_second() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def _existing(app: Path) -> Path:
    if not app.is_file():
        raise click.UsageError(f"no file {app}: name the file of the tasks with --app")
    return app
