"""Nights on which clocks change, as a rule notices them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from pg_scheduler.recurrence import Rule, cron, every, notes_within

YEAR = (datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC))
NEW_YORK = "America/New_York"


@pytest.mark.parametrize(
    ("rule", "noted"),
    [
        (cron("30 2 * * *", time_zone=NEW_YORK), ["2026-03-08T07:00 02:30 does not exist"]),
        (cron("30 1 * * *", time_zone=NEW_YORK), ["2026-11-01T05:30 01:30 occurs twice"]),
        (
            cron("*/15 * * * *", time_zone=NEW_YORK),
            ["2026-11-01T05:00 01:00 occurs twice"],
        ),
        (cron("30 2 8 * *", time_zone=NEW_YORK, nonexistent="skip"), ["2026-04-08T06:30 02:30 does not exist"]),
        (cron("0 4 * * *", time_zone=NEW_YORK), []),
        (cron("30 2 * * *"), []),
        (every(timedelta(hours=1)), []),
    ],
)
def test_each_change_that_a_rule_notices_is_told_once(rule: Rule, noted: list[str]) -> None:
    told = [f"{at:%Y-%m-%dT%H:%M} {note}" for at, note in notes_within(rule, *YEAR)]

    assert [line[: len(start)] for line, start in zip(told, noted, strict=True)] == noted
