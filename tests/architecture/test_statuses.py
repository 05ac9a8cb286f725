"""A status that is added is known everywhere that has to know it."""

from __future__ import annotations

import re

import pytest

from pg_scheduler._store.queries import QUERIES
from pg_scheduler.job_status import JobStatus
from pg_scheduler_operator.reconcile import common
from support.paths import LIBRARY

FINAL = {status.value for status in JobStatus if status.is_final}
OPEN_BUT_NOT_RUNNING = {"pending", "waiting"}


def test_schema_knows_every_status_and_which_are_final() -> None:
    schema = (LIBRARY / "_store/migrations/0001_initial.sql").read_text()
    lists = [set(re.findall(r"'(\w+)'", text)) for text in re.findall(r"status IN \(([^)]*)\)", schema)]

    assert lists == [{status.value for status in JobStatus}, FINAL]


def test_operator_shows_every_status_and_every_end() -> None:
    assert set(common._STATES) == set(JobStatus)
    assert {status.value for status in common.ENDS} == FINAL


@pytest.mark.parametrize(
    ("query", "statuses"),
    [
        ("cancel_job", OPEN_BUT_NOT_RUNNING | {"running"}),
        ("cancel_owned_job", OPEN_BUT_NOT_RUNNING | {"running"}),
        ("withdraw_owned_job", OPEN_BUT_NOT_RUNNING),
        ("cancel_ticks", OPEN_BUT_NOT_RUNNING),
    ],
)
def test_statements_that_cancel_name_every_open_status(query: str, statuses: set[str]) -> None:
    (named,) = re.findall(r"status IN \(([^)]*)\)", QUERIES[query])

    assert set(re.findall(r"'(\w+)'", named)) == statuses
    assert OPEN_BUT_NOT_RUNNING | {"running"} == {status.value for status in JobStatus} - FINAL
