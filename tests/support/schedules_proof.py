"""The walk of ticks against the oracle, around the changes of every zone's clocks: ``make schedules-proof``.

First the library has to know every change that the zones' files tell of. Then each change is walked, once for all the
zones whose clocks change alike: each expression there and back over two days around it, or over four hours if it is a
dense one, under one of the six choices for changes of clocks; and the ticks in parts of these windows are counted. A
difference is exit code 1.
"""

from __future__ import annotations

import sys
from bisect import bisect_right
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import combinations, product

from pg_scheduler._domain import zones
from pg_scheduler._domain.counting import count_within
from pg_scheduler._domain.rules import Ambiguous, Cron, Nonexistent
from pg_scheduler._domain.walk import latest_until, next_after
from pg_scheduler._domain.zones import Change
from support import cron_oracle
from support.cron_oracle import Window

FIRST, END = datetime(1990, 1, 1, tzinfo=UTC), datetime(2041, 1, 1, tzinfo=UTC)
EXPRESSIONS = [
    *("* * * * *", "*/5 * * * *", "*/7 * * * *", "30 * * * *", "0 */2 * * *", "15 */3 * * *", "0,30 0-23 * * *"),
    *("*/30 0/1 * * *", "17 *,5 * * *", "0 */24 * * *", "*/60 * * * *", "0 * * * SUN", "*/20 * L * *"),
    *("30 2 * * *", "0 2 * * *", "15 2 * * *", "30 1 * * *", "0 0 * * *", "0 1 * * *", "0 3 * * *", "59 23 * * *"),
    *("1 0 * * *", "*/20 2 * * *", "* 0 * * *", "0,30 1-2 * * *", "0,15,30,45 0-3 * * *", "*/10 23 * * *"),
    *("45 22/1 * * *", "0 0-22 * * *", "5 0,12 * * *", "30 2 * * SUN", "30 1 * * FRI-SUN", "0 2 * * 7", "0 0 L * *"),
    *("0 2 * * 0L", "0 2 * * SUN#2", "30 1 * * SAT-SUN", "0 0 1 * *", "0 0 13 * FRI", "30 2 8-14 3 *", "0 3 */2 * SUN"),
    *("0 2 * MAR,OCT *", "30 0 * * 6/1", "0 4 1,15,L * MON", "0 12 29 2 *", "20 0-3 * 3-4,9-11 *"),
]
CHOICES: list[tuple[Nonexistent, Ambiguous]] = list(product(("shift_forward", "skip"), ("first", "last", "both")))
DENSE = 30
ANCHOR = datetime(1980, 1, 1, tzinfo=UTC)
INSTANT = timedelta(microseconds=1)
WALKED_HOURS, DENSE_HOURS = 27, 2


def zone_names() -> list[str]:
    """A name for each zone that has data of its own."""
    return sorted({cron_oracle.data_of(name): name for name in cron_oracle.zone_names()}.values())


def changes(zone: str) -> list[Change]:
    """The changes of the zone's clocks from 1990 to 2040: those its file lists, and what follows from its rule."""
    listed = [at for at, _, _ in cron_oracle.listed_changes(zone)]
    begin = max([FIRST, *listed[-1:]]) + timedelta(hours=1)
    instants = [at for at in [*listed, *cron_oracle.scanned_changes(zone, begin, END)] if FIRST <= at < END]
    return [Change(at, cron_oracle.offset(zone, at - INSTANT), cron_oracle.offset(zone, at)) for at in instants]


@cache
def sample() -> dict[str, tuple[str, Change]]:
    """Of each kind of change, by how far and from which time of day, the newest that a file lists."""
    found: dict[str, tuple[str, Change]] = {}
    listed = [
        (Change(at, timedelta(seconds=before), timedelta(seconds=after)), zone)
        for zone in zone_names()
        for at, before, after in cron_oracle.listed_changes(zone)
        if at >= FIRST
    ]
    for change, zone in sorted(listed, key=lambda pair: pair[0].at):
        found[f"{change.after - change.before} at {change.stops:%H:%M}"] = zone, change
    return found


def known_changes(zone: str) -> list[Change]:
    """The same by the library."""
    return zones.changes_between(zones.zone(zone), FIRST, END - INSTANT)


@cache
def is_dense(expression: str) -> bool:
    return len(cron_oracle.matching(" ".join([*expression.split()[:2], "*", "*", "*"]), 0, 24 * 60 - 1)) > DENSE


def differences(zone: str, change: Change, turn: int) -> list[str]:
    """What walk and count do otherwise than the oracle around a change; each expression under the next choice."""
    window = Window.around(zone, change.at, WALKED_HOURS)
    found = []
    for n, expression in enumerate(EXPRESSIONS, turn):
        nonexistent, ambiguous = CHOICES[n % len(CHOICES)]
        ticks = sorted(map(cron_oracle.instant_of, cron_oracle.ticks(expression, window, nonexistent, ambiguous)))
        reach = timedelta(hours=DENSE_HOURS if is_dense(expression) else WALKED_HOURS)
        rule = Cron((expression,), zone, nonexistent=nonexistent, ambiguous=ambiguous)
        found += [
            f"{zone} {expression!r} {nonexistent} {ambiguous} around {change.at}: {difference}"
            for difference in _differences(rule, ticks, change.at - reach, change.at + reach)
        ]
    return found


def _differences(rule: Cron, ticks: list[datetime], first: datetime, last: datetime) -> list[str]:
    due = ticks[bisect_right(ticks, first) : bisect_right(ticks, last)]
    middle = first + (last - first) / 2
    walks = {"forwards": (_forwards(rule, first, last), due), "backwards": (_backwards(rule, first, last), due)}
    looks = (middle - INSTANT, middle, middle + timedelta(minutes=30))
    for at in looks:
        walks[f"after {at}"] = (_forwards(rule, at, last)[:1], [tick for tick in due if tick > at][:1])
    return [
        f"{way}: only walked {sorted(set(walked) - set(right))}, only right {sorted(set(right) - set(walked))}"
        for way, (walked, right) in walks.items()
        if walked != right
    ] + _miscounted(rule, due, (first, *looks, last))


def _miscounted(rule: Cron, due: list[datetime], looks: tuple[datetime, ...]) -> list[str]:
    return [
        f"counted {counted} and not {right} after {after} until {until}"
        for after, until in combinations(looks, 2)
        if (counted := count_within(rule, after, until, anchor=ANCHOR))
        != (right := bisect_right(due, until) - bisect_right(due, after))
    ]


def _forwards(rule: Cron, first: datetime, last: datetime) -> list[datetime]:
    walked, tick = [], next_after(rule, first, anchor=ANCHOR)
    while tick is not None and tick <= last:
        walked.append(tick)
        tick = next_after(rule, tick, anchor=ANCHOR)
    return walked


def _backwards(rule: Cron, first: datetime, last: datetime) -> list[datetime]:
    walked, tick = [], latest_until(rule, last, anchor=ANCHOR)
    while tick is not None and tick > first:
        walked.append(tick)
        tick = latest_until(rule, tick - INSTANT, anchor=ANCHOR)
    return walked[::-1]


def main() -> int:
    names, count, different = zone_names(), 0, dict[Change, str]()
    for zone in names:
        there = changes(zone)
        if there != known_changes(zone):
            sys.stderr.write(f"{zone}: the library knows other changes of its clocks than its file\n")
            return 1
        count += len(there)
        different |= dict.fromkeys(there, zone)
    wrong = 0
    with ProcessPoolExecutor() as pool:
        for n, found in enumerate(pool.map(differences, different.values(), different, range(len(different))), 1):
            wrong += len(found)
            sys.stderr.write("".join(f"{line}\n" for line in found) or f"\r{n} of {len(different)} changes ")
    sys.stdout.write(
        f"{len(cron_oracle.zone_names())} names of {len(names)} zones, {count} changes of clocks from {FIRST:%Y} to "
        f"{END - INSTANT:%Y}, of which {len(different)} are different, {len(EXPRESSIONS)} expressions: "
        f"{len(different) * len(EXPRESSIONS)} cases, {wrong} differences\n"
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
