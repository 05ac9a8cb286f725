"""``pgscheduler preview``: the runs of a rule with the notes on changes of clocks."""

from __future__ import annotations

import json
import re
import shlex
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from support.paths import ROOT

if TYPE_CHECKING:
    from support.commands import RunCommand

GAP = "does not exist that day (clocks go forward): runs when the gap ends"
TWICE = "01:30 occurs twice that day (clocks go back): runs the second time"
SPRING = f"""\
At 02:30 every day, America/New_York
  Sat 2026-03-07 02:30 EST   2026-03-07T07:30Z
  Sun 2026-03-08 03:00 EDT   2026-03-08T07:00Z   02:30 {GAP}
  Mon 2026-03-09 02:30 EDT   2026-03-09T06:30Z
"""
AUTUMN = f"""\
At 01:30:00 and 01:30:30 every day, America/New_York
  Sun 2026-11-01 01:30:00 EST   2026-11-01T06:30:00Z   {TWICE}
  Sun 2026-11-01 01:30:30 EST   2026-11-01T06:30:30Z   {TWICE}
  Mon 2026-11-02 01:30:00 EST   2026-11-02T06:30:00Z
"""
APIA = f"""\
At 00:00 every day, Pacific/Apia
  Thu 2011-12-29 00:00 -10   2011-12-29T10:00Z
  Sat 2011-12-31 00:00 +14   2011-12-30T10:00Z   00:00 {GAP.replace("that day", "on 2011-12-30")}
"""
NEW_YORK = ("--tz", "America/New_York")


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (("30 2 * * *", *NEW_YORK, "--around", "2026-03-08"), SPRING),
        (
            ("30 1 * * *", *NEW_YORK, "--from", "2026-11-01T01:45-04:00", "--count", "3", "--ambiguous", "last"),
            AUTUMN,
        ),
        (("0 0 * * *", "--tz", "Pacific/Apia", "--around", "2011-12-30"), APIA),
    ],
)
def test_runs_are_shown_in_the_zone_and_in_utc(pgscheduler: RunCommand, arguments: tuple[str, ...], shown: str) -> None:
    seconds = ("--seconds", "0,30") if ":30:30" in shown else ()

    ended = pgscheduler("preview", *arguments, *seconds)

    assert (ended.exit_code, ended.err, ended.out) == (0, "", shown)


def test_json_holds_the_rule_and_its_runs(pgscheduler: RunCommand) -> None:
    ended = pgscheduler(
        *("preview", "30 2 * * *", "0 12 * * *", *NEW_YORK, "--from", "2026-03-08T00:00Z", "--count", "2"),
        *("--nonexistent", "skip", "-o", "json"),
    )

    assert json.loads(ended.out) == {
        "rule": "30 2 * * *; 0 12 * * *",
        "time_zone": "America/New_York",
        "description": "At 02:30 every day, and at 12:00 every day, America/New_York",
        "runs": [
            {
                "at": "2026-03-08T16:00:00Z",
                "local": "2026-03-08T12:00:00-04:00",
                "note": "02:30 does not exist that day (clocks go forward): no run",
            },
            {"at": "2026-03-09T06:30:00Z", "local": "2026-03-09T02:30:00-04:00", "note": ""},
        ],
    }


def test_without_an_instant_it_begins_now(pgscheduler: RunCommand) -> None:
    before = datetime.now(UTC)

    runs = json.loads(pgscheduler("preview", "* * * * *", "--seconds", "*", "-o", "json").out)["runs"]

    assert len(runs) == 10
    assert before.replace(microsecond=0) <= datetime.fromisoformat(runs[0]["at"])


def test_the_runs_before_and_after_a_day_are_shown_whenever_they_are(pgscheduler: RunCommand) -> None:
    ended = pgscheduler("preview", "0 0 29 2 *", "--around", "2026-01-01", "-o", "json")

    assert [run["at"][:10] for run in json.loads(ended.out)["runs"]] == ["2024-02-29", "2028-02-29"]


def test_the_instant_itself_is_among_the_runs(pgscheduler: RunCommand) -> None:
    ended = pgscheduler("preview", "0 12 * * *", "--from", "2026-01-01T12:00Z", "--count", "1")

    assert "2026-01-01T12:00Z" in ended.out


def test_what_kubernetes_reads_otherwise_is_said(pgscheduler: RunCommand) -> None:
    ended = pgscheduler("preview", "0 0 */2 * FRI", "--count", "1")

    assert "note: day-of-month */2 and day-of-week FRI have both to match; a Kubernetes CronJob" in ended.err
    assert "Kubernetes" not in ended.out


def test_the_end_of_time_is_no_answer(pgscheduler: RunCommand) -> None:
    ended = pgscheduler("preview", "0 0 1 1 *", "--from", "9998-12-31T00:00Z", "-o", "json")

    assert (ended.exit_code, json.loads(ended.out)["runs"]) == (1, [])
    assert "no run before the year 9999" in ended.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("0 25 * * *",), "hour '25'"),
        (("* * * * * *",), "seconds='0,20,40'"),
        (("@daily", "--tz", "Berlin"), "Europe/Berlin"),
        (("@daily", "--seconds", "60"), "second '60'"),
    ],
)
def test_a_rule_that_is_refused_is_wrong_usage(pgscheduler: RunCommand, arguments: tuple[str, ...], words: str) -> None:
    assert words in pgscheduler("preview", *arguments).require_block("PGS-003", exit_code=2)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "Missing argument 'RULE...'"),
        (("@daily", "--from", "2026-01-01"), "'--from': '2026-01-01' has no time zone"),
        (("@daily", "--from", "tomorrow"), "no instant such as"),
        (("@daily", "--from", "0001-01-01T00:00Z"), "a year from 1900 to 9998"),
        (("@daily", "--around", "9999-12-31"), "a year from 1900 to 9998"),
        (("@daily", "--around", "2026-02-30"), "2026-02-30"),
        (("@daily", "--around", "2026-01-01", "--from", "2026-01-01T00:00Z"), "not for --around"),
        (("@daily", "--around", "2026-01-01", "--count", "10"), "not for --around"),
        (("@daily", "--count", "0"), "1<=x<=10000"),
    ],
)
def test_wrong_usage_says_what_to_write(pgscheduler: RunCommand, arguments: tuple[str, ...], words: str) -> None:
    ended = pgscheduler("preview", *arguments)

    assert ended.exit_code == 2
    assert words in ended.err


def test_the_reference_shows_what_the_command_prints(pgscheduler: RunCommand) -> None:
    page = (ROOT / "docs" / "reference" / "cron.md").read_text(encoding="utf-8")
    (command, shown), *others = re.findall(r"^```text\n\$ pgscheduler (.*?)\n(.*?)^```", page, re.MULTILINE | re.DOTALL)

    assert others == []
    assert pgscheduler(*shlex.split(command)).out == shown
