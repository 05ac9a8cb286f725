"""What an expression names, and what is refused in which words."""

from __future__ import annotations

import time
from contextlib import suppress
from datetime import date, timedelta

import pytest

from pg_scheduler._domain import cron_fields
from pg_scheduler._domain.cron_fields import MINUTE, WEEKDAY, parsed, values_of
from pg_scheduler._domain.rules import Cron
from pg_scheduler.errors import InvalidSchedule
from support import cron_oracle
from support.schedules_proof import EXPRESSIONS

HOSTILE_SECONDS = 0.005

REFUSED = [
    ("* * * * * *", "6 fields", "seconds='0,20,40'"),
    ("0 0 * * * ? 2026", "7 fields", "there is no year"),
    ("* * * *", "4 fields", "give five fields"),
    ("", "0 fields", "give five fields"),
    ("R * * * *", "minute 'R'", "choose a value"),
    ("0 H * * *", "hour 'H'", "choose a value"),
    ("H/15 * * * *", "minute 'H/15'", "choose a value"),
    ("H(0-29) * * * *", "minute 'H(0-29)'", "choose a value"),
    ("0 0 ? * MON", "day-of-month '?'", "write *"),
    ("0 0 15W * *", "day-of-month '15W'", "MON-FRI as day-of-week"),
    ("0 0 LW * *", "day-of-month 'LW'", "MON-FRI as day-of-week"),
    ("0 0 L-3 * *", "day-of-month 'L-3'", "give L, the last day"),
    ("0 0 L/2 * *", "day-of-month 'L/2'", "give L, the last day"),
    ("0 0 * * L", "day-of-week 'L'", "give 5L"),
    ("0 0 * * FRIL", "day-of-week 'FRIL'", "give 5L"),
    ("@reboot", "'@reboot' names no time", "when your program starts"),
    ("@every 5m", "'@every 5m' is an interval", "timedelta(minutes=5)"),
    ("@fortnightly", "no '@fortnightly'", "@weekly"),
    ("0 5-1 * * *", "hour '5-1': the range runs backwards", "5-23,0-1"),
    ("0 0 * * 5-1", "day-of-week '5-1'", "5-6,0-1"),
    ("0 0 * * FRI-MON", "day-of-week 'FRI-MON'", "5-6,0-1"),
    ("*/61 * * * *", "minute '*/61'", "a step is 1 to 60"),
    ("*/0 * * * *", "minute '*/0'", "a step is 1 to 60"),
    ("0 */25 * * *", "hour '*/25'", "a step is 1 to 24"),
    ("0 0 * * */8", "day-of-week '*/8'", "a step is 1 to 7"),
    ("60 * * * *", "minute '60'", "from 0 to 59"),
    ("0 24 * * *", "hour '24'", "from 0 to 23"),
    ("0 0 0 * *", "day-of-month '0'", "from 1 to 31"),
    ("0 0 * 13 *", "month '13'", "from 1 to 12"),
    ("0 0 * * 8", "day-of-week '8'", "from 0 to 7"),
    ("0 0 * * MON#6", "day-of-week 'MON#6'", "#1 to #5"),
    ("0 0 * * MON#0", "day-of-week 'MON#0'", "#1 to #5"),
    ("0 0 * * MON,TUE#12", "day-of-week 'TUE#12'", "#1 to #5"),
    ("0 0 * * MON#", "day-of-week 'MON#'", "SUN-SAT"),
    ("0 0 * JANUARY *", "month 'JANUARY'", "JAN-DEC"),
    ("0 0 * MON *", "month 'MON'", "JAN-DEC"),
    ("0 0 31 4 *", "'0 0 31 4 *' never fires", "another day-of-month or month"),
    ("0 0 30 2 *", "never fires", "another day-of-month or month"),
    ("0 0 */31 2 MON#2", "never fires", "another day-of-month or month"),
    ("\uff11 * * * *", "outside printable ASCII", "plain digits"),
    ("\u0663 * * * *", "outside printable ASCII", "plain digits"),
    ("0 0\x00 * * *", "outside printable ASCII", "plain digits"),
    ("0," * 70 + "0 * * * *", "149 characters", "at most 128"),
    ("CRON_TZ=UTC 0 0 * * *", "sets a variable", "timeZone"),
    ("TZ=UTC 0 0 * * *", "sets a variable", "timeZone"),
    ("1,,2 * * * *", "minute ''", "from 0 to 59"),
    ("-5 * * * *", "minute '-5'", "from 0 to 59"),
    ("+5 * * * *", "minute '+5'", "from 0 to 59"),
    ("1/2/3 * * * *", "minute '1/2/3'", "from 0 to 59"),
    ("*-5 * * * *", "minute '*-5'", "from 0 to 59"),
]


@pytest.mark.parametrize(("expression", "what", "fix"), REFUSED)
def test_refused_expression_names_field_value_and_fix(expression: str, what: str, fix: str) -> None:
    with pytest.raises(InvalidSchedule) as caught:
        Cron(("* * * * *", expression))

    assert caught.value.field == "cron[1]"
    assert what in caught.value.what
    assert fix in str(caught.value)


def test_expression_that_is_no_text_is_refused() -> None:
    with pytest.raises(InvalidSchedule, match="a cron expression that is a int"):
        Cron((5,))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("5/2", {5}),
        ("1/2", {1, 3, 5}),
        ("SUN/2", {0, 2, 4, 6}),
        ("7/2", {0, 2, 4, 6}),
        ("7", {0}),
        ("5-7", {5, 6, 0}),
        ("FRI-SUN", {5, 6, 0}),
        ("SAT-SUN", {6, 0}),
        ("SUN-SUN", {0}),
        ("7-7", {0}),
        ("7-2", {0, 1, 2}),
        ("sun-tue".upper(), {0, 1, 2}),
        ("MON-SUN/2", {1, 3, 5, 0}),
        ("*/7", {0}),
    ],
)
def test_weekdays_are_settled(text: str, values: set[int]) -> None:
    assert values_of(text, WEEKDAY) == values


@pytest.mark.parametrize(
    ("text", "values"),
    [("*/60", {0}), ("57/1", {57, 58, 59}), ("50-55/2,3", {3, 50, 52, 54}), ("5-5/2", {5}), ("00007", {7})],
)
def test_steps_run_to_the_end_of_the_field(text: str, values: set[int]) -> None:
    assert values_of(text, MINUTE) == values


@pytest.mark.parametrize(
    ("expression", "days"),
    [
        ("0 0 13 * FRI", {6, 13, 20, 27}),
        ("0 0 */2 * FRI", {13, 27}),
        ("0 0 13 * */5", {13}),
        ("0 0 L * *", {31}),
        ("0 0 L,1 * *", {1, 31}),
        ("0 0 * * 5L", {27}),
        ("0 0 * * FRI#2", {13}),
        ("0 0 * * SUN#5,MON#1", {29, 2}),
        ("0 0 31 * MON#5", {31, 30}),
    ],
)
def test_day_fields_join_by_either_unless_one_begins_with_a_star(expression: str, days: set[int]) -> None:
    assert set(parsed(expression).days_in(2026, 3)) == days


@pytest.mark.parametrize(
    ("hour", "is_real_time"),
    [("*", True), ("*/2", True), ("*,5", True), ("0-23", True), ("0/1", True), ("*/24", False), ("0-22", False)],
)
def test_kind_of_a_rule_follows_from_its_hours(hour: str, is_real_time: bool) -> None:
    assert parsed(f"*/20 {hour} * * *").is_real_time is is_real_time


@pytest.mark.parametrize("expression", [*EXPRESSIONS, "0 0 29 2 MON", "0 0 29 FEB *", "0 0 */30 1-3 */2"])
def test_days_are_those_of_the_oracle(expression: str) -> None:
    days = [date(1999, 12, 31) + timedelta(days=n) for n in range(1600)]

    walked = [day for day in days if day.day in parsed(expression).days_in(day.year, day.month)]

    assert walked == [day for day in days if cron_oracle.day_matches(expression, day)]


def test_words_and_blanks_are_read_as_people_write_them() -> None:
    assert parsed(" 0  9\t* jan mon-fri\n") == parsed("0 9 * 1 1-5")
    assert parsed("@Daily") == parsed("@midnight") == parsed("0 0 * * *")


HOSTILE = [
    "*/1," * 15 + "* */1,*/1 * * *",
    "0-59," * 10 + "0-59 0-23,0-23,0-23 1-31,1-31,L 1-12 0-7,0L,1L,2L,MON#5",
    "* * 31 2,4,6,9,11 */7",
    "0 0 */31 2 MON#2",
    "* * " + ",".join(str(day) for day in range(1, 32)) + " * SUN#1,MON#2,TUE#3,WED#4",
    "/" * 120 + " * * * *",
    "1-2-3-" * 18 + "* * * * *",
    "9" * 119 + " * * * *",
    "*/" + "9" * 117 + " * * * *",
    "L" * 100 + " L L L L",
]


@pytest.mark.parametrize("expression", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_expression_is_answered_at_once(expression: str) -> None:
    """In CPU time, and the best of three: the first call in a process pays for what Python sets up."""
    spent = []
    for _ in range(3):
        cron_fields.parsed.cache_clear()
        cron_fields._days_of.cache_clear()
        begin = time.thread_time()
        with suppress(InvalidSchedule):
            Cron((expression,))
        spent.append(time.thread_time() - begin)

    assert len(expression) <= cron_fields.EXPRESSION_CHARACTERS_MAX
    assert min(spent) < HOSTILE_SECONDS
