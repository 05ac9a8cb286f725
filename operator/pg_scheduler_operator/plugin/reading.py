"""Commands that only look: ``status next simulate explain``.

Invariant: importing this module imports click and nothing heavier; nothing here changes the cluster.
"""

# ruff: noqa: PLC0415 (a command imports what it runs when it runs: help is quick, and works without the extra)

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import click

from pg_scheduler.cli.exit_codes import EXIT_NO
from pg_scheduler.cli.extras import needs_extra
from pg_scheduler.cli.instants import instant_of
from pg_scheduler.cli.output import output_option, print_records, progress
from pg_scheduler_operator.cli.parameters import duration_option, since_option, slots_option
from pg_scheduler_operator.plugin.parameters import cluster_options, everywhere_option, object_argument

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pg_scheduler.cli.output import Output
    from pg_scheduler_operator.plugin.explanation import Explanation
    from pg_scheduler_operator.plugin.kubectl import Kubectl
    from pg_scheduler_operator.plugin.leader import Leader
    from pg_scheduler_operator.plugin.overview import Overview

EVENTS = "events.events.k8s.io"
LEASES = "leases.coordination.k8s.io"


@click.command(
    short_help="Show how all is, on one screen.",
    epilog="Example: kubectl pgscheduler status -A",
)
@everywhere_option
@output_option
@cluster_options
def status(*, flags: Sequence[str], everywhere: bool, output: Output) -> None:
    """Show how all is, on one screen: operator, database, pools, objects in trouble, next ticks."""
    with needs_extra("kubectl"):
        from pg_scheduler_operator.plugin.kubectl import Kubectl
        from pg_scheduler_operator.plugin.overview import lines_of, overview
    kubectl, now = Kubectl(flags), datetime.now(UTC)
    objects = kubectl.all_of("pjob", "sjob", "wpool", everywhere=everywhere)
    seen = overview(objects, _leaders(kubectl, now), now=now)
    _print(seen, lines_of(seen), output)


@click.command(
    "next",
    short_help="Show when a PeriodicJob ticks.",
    epilog="Example: kubectl pgscheduler next pjob/nightly-report --count 10",
)
@object_argument
@click.option("--count", type=click.IntRange(1, 10_000), default=5, show_default=True, help="How many ticks.")
@output_option
@cluster_options
@click.pass_context
def next_ticks(
    context: click.Context, words: Sequence[str], *, flags: Sequence[str], count: int, output: Output
) -> None:
    """Show when a PeriodicJob ticks next, in its zone and in UTC, with notes on changes of clocks.

    What stands in the way of the ticks, such as a suspension, is told on standard error. Exit code 1 means that there
    is no tick any more.
    """
    with needs_extra("kubectl"):
        from pg_scheduler_operator.plugin import ticks
        from pg_scheduler_operator.plugin.kubectl import Kubectl
        from pg_scheduler_operator.plugin.references import parse
    body = Kubectl(flags).get(parse(words, ["pjob"]))
    found = ticks.upcoming(body, count=count, now=datetime.now(UTC))
    print_records(ticks.records(found), output)
    for remark in found.remarks:
        progress(f"note: {remark}")
    if not found.ticks:
        progress("no tick before the year 9999")
        context.exit(EXIT_NO)


@click.command(
    short_help="Show what the cluster's schedules will do.",
    epilog="Example: kubectl pgscheduler simulate --to 2026-12-24T00:00Z --slots 25",
)
@everywhere_option
@since_option
@click.option("--to", "until", callback=instant_of, metavar="INSTANT", help="When it ends; a day later if not given.")
@slots_option
@duration_option
@click.option("--runs", is_flag=True, help="List every run, too.")
@output_option
@cluster_options
def simulate(
    *,
    flags: Sequence[str],
    everywhere: bool,
    since: datetime | None,
    until: datetime | None,
    slots: int | None,
    durations: Mapping[str, float],
    runs: bool,
    output: Output,
) -> None:
    """Show what the schedules in the cluster will do, as pgscheduler simulate does with files.

    It takes the objects of the namespace as they stand; those that cannot be used are told of and left out. A run takes
    what the object's annotation pgscheduler.io/expected-duration-seconds says, else a second. Intervals begin when the
    simulation does.
    """
    with needs_extra("kubectl"):
        from pg_scheduler_operator.cli.scenes import Wish, namespaces
        from pg_scheduler_operator.cli.simulating import play, show
        from pg_scheduler_operator.plugin.kubectl import Kubectl
        from pg_scheduler_operator.plugin.simulated import declared
    objects = Kubectl(flags).all_of("pjob", "sjob", "wpool", everywhere=everywhere)
    begins_at = since or datetime.now(UTC).replace(microsecond=0)
    wish = Wish(begins_at=begins_at, ends_at=until or begins_at + timedelta(days=1), slots=slots, durations=durations)
    found, refused = namespaces(declared(objects), wish)
    for each in refused:
        progress(f"note: {each.key} is left out: {each.error}")
    show(play(found, runs=runs, occupancy=False), wish, output, runs=runs)


@click.command(
    short_help="Say why something does not run.",
    epilog="Example: kubectl pgscheduler explain sjob/send-invoices",
)
@object_argument
@output_option
@cluster_options
def explain(words: Sequence[str], *, flags: Sequence[str], output: Output) -> None:
    """Say why a job does not run, a schedule does not tick, or a pool does not scale, and what to do about it.

    The first line is the answer. Other things that stand in the way follow, then what each link of the chain says:
    the object, its conditions, its row, its queue, the pools, the tasks that their workers know, events.
    """
    with needs_extra("kubectl"):
        from pg_scheduler_operator.plugin import explanation
        from pg_scheduler_operator.plugin.kubectl import Kubectl
        from pg_scheduler_operator.plugin.picture import Picture
        from pg_scheduler_operator.plugin.references import PLURALS, parse
    reference, kubectl, now = parse(words, PLURALS), Kubectl(flags), datetime.now(UTC)
    body = kubectl.get(reference)
    picture = Picture(
        body=body,
        objects=kubectl.all_of("pjob", "sjob", "wpool"),
        events=_events_of(kubectl, body["metadata"]["uid"]),
        leaders=_leaders(kubectl, now),
        now=now,
    )
    explained = explanation.explain(picture)
    _print(explained, explanation.lines_of(explained), output)


def _print(value: Explanation | Overview, lines: Sequence[str], output: Output) -> None:
    click.echo(json.dumps(asdict(value), ensure_ascii=False, indent=2) if output == "json" else "\n".join(lines))


def _events_of(kubectl: Kubectl, uid: str) -> list[Mapping[str, object]]:
    """The events about an object, oldest first; none where they may not be read."""
    from pg_scheduler_operator.errors import RightMissing

    try:
        events = kubectl.objects(EVENTS)
    except RightMissing:
        return []
    about = [event for event in events if event.get("regarding", {}).get("uid") == uid]
    return sorted(about, key=lambda event: str(event.get("eventTime") or event["metadata"]["creationTimestamp"]))


def _leaders(kubectl: Kubectl, now: datetime) -> list[Leader] | None:
    """Who runs operators; None where Leases may not be read, which few people may."""
    from pg_scheduler_operator.errors import RightMissing
    from pg_scheduler_operator.plugin.leader import SELECTOR, leaders

    try:
        return leaders(kubectl.objects(LEASES, selector=SELECTOR, everywhere=True), now)
    except RightMissing:
        return None
