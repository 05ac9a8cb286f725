"""The command ``pgscheduler preview``: when a rule runs, and what changes of clocks do to it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING, get_args

import click
from click.core import ParameterSource

from pg_scheduler import recurrence
from pg_scheduler.cli.exit_codes import EXIT_NO
from pg_scheduler.cli.instants import in_range, instant_of
from pg_scheduler.cli.output import Output, output_option, progress

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pg_scheduler.recurrence import Ambiguous, Cron, Nonexistent

EVER = datetime.min.replace(tzinfo=UTC)
INSTANT = timedelta(microseconds=1)


@click.command(
    short_help="Show when a cron rule runs.",
    epilog='Example: pgscheduler preview "30 2 * * *" --tz America/New_York --around 2026-03-08',
)
@click.argument("rules", nargs=-1, required=True, metavar="RULE...")
@click.option("--tz", "time_zone", default="Etc/UTC", show_default=True, metavar="ZONE", help="IANA zone of the rule.")
@click.option(
    "--around",
    type=click.DateTime(["%Y-%m-%d"]),
    callback=in_range,
    metavar="DATE",
    help="The runs of this day in the zone, the one before and the one after.",
)
@click.option(
    "--from",
    "since",
    callback=instant_of,
    metavar="INSTANT",
    help="The runs from this instant on, such as 2026-03-08T07:00Z; now if not given.",
)
@click.option("--count", type=click.IntRange(1, 10_000), default=10, show_default=True, help="How many, with --from.")
@click.option("--seconds", default="0", show_default=True, metavar="FIELD", help='Seconds of each run: "0,20,40".')
@click.option(
    "--nonexistent",
    type=click.Choice(get_args(recurrence.Nonexistent)),
    default="shift_forward",
    show_default=True,
    help="What becomes of a time that is left out as clocks go forward.",
)
@click.option(
    "--ambiguous",
    type=click.Choice(get_args(recurrence.Ambiguous)),
    default="first",
    show_default=True,
    help="Which runs where clocks go back and a time comes twice.",
)
@output_option
@click.pass_context
def preview(
    context: click.Context,
    *,
    rules: Sequence[str],
    time_zone: str,
    around: datetime | None,
    since: datetime | None,
    count: int,
    seconds: str,
    nonexistent: Nonexistent,
    ambiguous: Ambiguous,
    output: Output,
) -> None:
    """Show when a cron RULE runs, in its zone and in UTC, with notes on changes of clocks.

    Several rules are one: it runs whenever one of them does. Nothing is read but the zone data of this release.
    """
    if around and (since or context.get_parameter_source("count") is ParameterSource.COMMANDLINE):
        raise click.UsageError("--from and --count are not for --around: it shows one day")
    rule = recurrence.cron(rules, time_zone=time_zone, seconds=seconds, nonexistent=nonexistent, ambiguous=ambiguous)
    runs = list(_around(rule, around) if around else _first(rule, since or datetime.now(UTC), count))
    click.echo(_as_json(rule, runs) if output == "json" else "\n".join(_lines(rule, runs)))
    for hint in filter(None, map(recurrence.kubernetes_hint, rules)):
        progress(f"note: {hint}")
    if not runs:
        progress("no run before the year 9999")
        context.exit(EXIT_NO)


def _first(rule: Cron, since: datetime, count: int) -> Iterator[datetime]:
    run = recurrence.next_after(rule, since - INSTANT, anchor=EVER)
    while run and count:
        yield run
        run, count = recurrence.next_after(rule, run, anchor=EVER), count - 1


def _around(rule: Cron, day: datetime) -> Iterator[datetime]:
    begin, end = (datetime.combine(day + n * timedelta(days=1), time(fold=n), tzinfo=rule.zone) for n in (0, 1))
    run = recurrence.latest_until(rule, begin.astimezone(UTC) - INSTANT, anchor=EVER) or recurrence.next_after(
        rule, EVER, anchor=EVER
    )
    while run and run < end:
        yield run
        run = recurrence.next_after(rule, run, anchor=EVER)
    if run:
        yield run


def _lines(rule: Cron, runs: Sequence[datetime]) -> list[str]:
    """The description, and a line for each run: in the zone, in UTC, and the note."""
    precision = "%H:%M" if rule.seconds == "0" else "%H:%M:%S"
    local = [recurrence.local(rule, run) for run in runs]
    width = max((len(f"{at:%Z}") for at in local), default=0)
    return [
        recurrence.describe(rule),
        *(
            f"  {at:%a %Y-%m-%d {precision}} {f'{at:%Z}':{width}}   {run:%Y-%m-%dT{precision}}Z"
            f"   {recurrence.note(rule, run)}".rstrip()
            for at, run in zip(local, runs, strict=True)
        ),
    ]


def _as_json(rule: Cron, runs: Sequence[datetime]) -> str:
    shown = {
        "rule": recurrence.shown(rule),
        "time_zone": rule.time_zone,
        "description": recurrence.describe(rule),
        "runs": [
            {
                "at": f"{run:%Y-%m-%dT%H:%M:%SZ}",
                "local": recurrence.local(rule, run).isoformat(),
                "note": recurrence.note(rule, run),
            }
            for run in runs
        ],
    }
    return json.dumps(shown, ensure_ascii=False, indent=2)
