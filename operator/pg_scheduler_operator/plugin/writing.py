"""Commands that change the cluster: ``trigger backfill rerun suspend resume``.

Invariant: importing this module imports click and nothing heavier. Each reads, has a pure module decide, and writes
once; with ``--dry-run`` the API server checks that write and forgets it.
"""

# ruff: noqa: PLC0415 (a command imports what it runs when it runs: help is quick, and works without the extra)

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from pg_scheduler.cli.exit_codes import EXIT_NO
from pg_scheduler.cli.extras import needs_extra
from pg_scheduler.cli.instants import instant_of
from pg_scheduler.cli.output import output_option, print_records, progress
from pg_scheduler_operator.plugin.parameters import cluster_options, dry_run_option, object_argument, wait_options

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pg_scheduler.cli.output import Output
    from pg_scheduler_operator.plugin.kubectl import Kubectl
    from pg_scheduler_operator.plugin.runs import Backfill

TICKS_MOST = 1000


@click.command(
    short_help="Run a PeriodicJob once, now.",
    epilog="Example: kubectl pgscheduler trigger pjob/nightly-report --wait",
)
@object_argument
@wait_options
@dry_run_option
@output_option
@cluster_options
@click.pass_context
def trigger(
    context: click.Context,
    words: Sequence[str],
    *,
    flags: Sequence[str],
    wait: bool,
    timeout_seconds: float,
    dry_run: bool,
    output: Output,
) -> None:
    """Run a PeriodicJob once, now, beside its schedule: it makes a ScheduledJob, whose name is printed.

    The extra run is no tick: it counts in no figure of the schedule and heeds no overlapPolicy. It obeys the
    template's concurrency key.
    """
    with needs_extra("kubectl"):
        from pg_scheduler_operator.plugin import runs
        from pg_scheduler_operator.plugin.kubectl import Kubectl
        from pg_scheduler_operator.plugin.references import parse
    kubectl = Kubectl(flags)
    manifest = runs.extra_run(kubectl.get(parse(words, ["pjob"])))
    _run_one(context, kubectl, manifest, wait_seconds=timeout_seconds if wait else None, dry_run=dry_run, output=output)


@click.command(
    short_help="Run a ScheduledJob that has ended once more.",
    epilog="Example: kubectl pgscheduler rerun sjob/send-invoices",
)
@object_argument
@wait_options
@dry_run_option
@output_option
@cluster_options
@click.pass_context
def rerun(
    context: click.Context,
    words: Sequence[str],
    *,
    flags: Sequence[str],
    wait: bool,
    timeout_seconds: float,
    dry_run: bool,
    output: Output,
) -> None:
    """Run a ScheduledJob that has ended once more, now: it makes another one from its spec, whose name is printed.

    The new one has no idempotencyKey, which would let it adopt the old run, and no runAt.
    """
    with needs_extra("kubectl"):
        from pg_scheduler_operator.plugin import runs
        from pg_scheduler_operator.plugin.kubectl import Kubectl
        from pg_scheduler_operator.plugin.references import parse
    kubectl = Kubectl(flags)
    manifest = runs.run_again(kubectl.get(parse(words, ["sjob"])))
    _run_one(context, kubectl, manifest, wait_seconds=timeout_seconds if wait else None, dry_run=dry_run, output=output)


def _run_one(
    context: click.Context,
    kubectl: Kubectl,
    manifest: Mapping[str, Any],
    *,
    wait_seconds: float | None,
    dry_run: bool,
    output: Output,
) -> None:
    """Make it, say its name, and see its end if that is asked for."""
    from pg_scheduler_operator.plugin import facts

    (made,) = kubectl.create(manifest, dry_run=dry_run)
    record = _record(made, "would be created" if dry_run else "created")
    if dry_run or wait_seconds is None:
        print_records([record], output)
        return
    reference = facts.reference_to(made)
    progress(f"{reference} created; waiting for its end")
    kubectl.wait_for(reference, "Finished", seconds=wait_seconds)
    ended = kubectl.get(reference)
    print_records([record | {"state": facts.state_of(ended)}], output)
    if not facts.holds(ended, "Complete"):
        context.exit(EXIT_NO)


def _record(body: Mapping[str, Any], result: str) -> dict[str, Any]:
    from pg_scheduler_operator.plugin import facts

    return {"object": str(facts.reference_to(body)), "namespace": facts.namespace_of(body), "result": result}


@click.command(
    short_help="Run the ticks of a time that has passed.",
    epilog="Example: kubectl pgscheduler backfill pjob/nightly-report --from 2026-11-01T00:00Z --to 2026-11-08T00:00Z",
)
@object_argument
@click.option(
    "--from",
    "since",
    required=True,
    callback=instant_of,
    metavar="INSTANT",
    help="The first tick may be at this instant, such as 2026-11-01T00:00Z.",
)
@click.option("--to", "until", required=True, callback=instant_of, metavar="INSTANT", help="Every tick is before this.")
@click.option(
    "--max",
    "most",
    type=click.IntRange(1, TICKS_MOST),
    default=100,
    show_default=True,
    help="More ticks than so many are refused.",
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@dry_run_option
@output_option
@cluster_options
@click.pass_context
def backfill(
    context: click.Context,
    words: Sequence[str],
    *,
    flags: Sequence[str],
    since: datetime,
    until: datetime,
    most: int,
    yes: bool,
    dry_run: bool,
    output: Output,
) -> None:
    """Run each tick of a PeriodicJob between two instants: it makes a ScheduledJob for each, due at once.

    Its runAt is the tick, which the task sees as ctx.scheduled_at. The names are made of the ticks: what is there
    already is not made again. First it says how many there are and asks.
    """
    with needs_extra("kubectl"):
        from pg_scheduler_operator.plugin import runs, ticks
        from pg_scheduler_operator.plugin.kubectl import Kubectl
        from pg_scheduler_operator.plugin.references import parse
    if until > datetime.now(UTC):
        raise click.UsageError("--to lies in the future: those ticks will fire by themselves")
    kubectl = Kubectl(flags)
    periodic_job = kubectl.get(parse(words, ["pjob"]))
    found = ticks.ticks_between(periodic_job, since, until, most=most)
    there = {body["metadata"]["name"] for body in kubectl.all_of("sjob")}
    plan = runs.backfill(periodic_job, found, there)
    told = f"{len(plan.missing)} runs to make, {len(plan.existing)} are there already"
    progress(
        f"{told}; ticks from {ticks.shown(found[0])} to {ticks.shown(found[-1])}" if found else "no tick in this time"
    )
    if plan.missing and not dry_run:
        _require_assent(context, yes=yes)
    made = kubectl.create(*plan.missing, dry_run=dry_run, may_exist=True) if plan.missing else []
    print_records(_backfilled(plan, made, dry_run=dry_run), output)


def _backfilled(plan: Backfill, made: Sequence[Mapping[str, Any]], *, dry_run: bool) -> list[dict[str, Any]]:
    """Of each run whether it was this command that made it: somebody may have been faster."""
    names, created = {body["metadata"]["name"] for body in made}, "would be created" if dry_run else "created"
    return [
        _record(body, created if body["metadata"]["name"] in names else "exists")
        for body in (*plan.missing, *plan.existing)
    ]


def _require_assent(context: click.Context, *, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError("there is no terminal to ask on: give --yes, or --dry-run to see what it would make")
    if not click.confirm("make them?", err=True):
        context.exit(EXIT_NO)


@click.command(
    short_help="Let nothing fire until it is resumed.",
    epilog='Example: kubectl pgscheduler suspend pjob/nightly-report --reason "stock-taking"',
)
@object_argument
@click.option("--reason", default="", help="Why, for people; of a PeriodicJob, everyone may read it.")
@dry_run_option
@output_option
@cluster_options
def suspend(words: Sequence[str], *, flags: Sequence[str], reason: str, dry_run: bool, output: Output) -> None:
    """Suspend a PeriodicJob, or hold a ScheduledJob while it is pending: it sets spec.suspend.

    What runs goes on. Where Git is applied to the cluster, change it there: the next apply undoes this.
    """
    with needs_extra("kubectl"):
        from pg_scheduler_operator.plugin import suspension
        from pg_scheduler_operator.plugin.kubectl import Kubectl
        from pg_scheduler_operator.plugin.references import parse
    kubectl, reference = Kubectl(flags), parse(words, ["pjob", "sjob"])
    body = kubectl.get(reference)
    patch = suspension.suspending(body, reason)
    if patch is not None:
        kubectl.patch(reference, patch, dry_run=dry_run)
    print_records([_record(body, _result(patch, "suspended", dry_run=dry_run))], output)


@click.command(
    short_help="Let it fire again.",
    epilog="Example: kubectl pgscheduler resume pjob/nightly-report",
)
@object_argument
@dry_run_option
@output_option
@cluster_options
def resume(words: Sequence[str], *, flags: Sequence[str], dry_run: bool, output: Output) -> None:
    """Resume a PeriodicJob or a ScheduledJob: it takes spec.suspend back, and ends a suspension after failures.

    A PeriodicJob makes up for nothing: its ticks begin anew.
    """
    with needs_extra("kubectl"):
        from pg_scheduler_operator.plugin import suspension
        from pg_scheduler_operator.plugin.kubectl import Kubectl
        from pg_scheduler_operator.plugin.references import parse
    kubectl, reference = Kubectl(flags), parse(words, ["pjob", "sjob"])
    body = kubectl.get(reference)
    patch = suspension.resuming(body, now=datetime.now(UTC))
    if patch is not None:
        kubectl.patch(reference, patch, dry_run=dry_run)
    print_records([_record(body, _result(patch, "resumed", dry_run=dry_run))], output)


def _result(patch: Mapping[str, Any] | None, done: str, *, dry_run: bool) -> str:
    if patch is None:
        return f"{done} already"
    return f"would be {done}" if dry_run else done
