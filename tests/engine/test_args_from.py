"""Arguments that come from the environment of the worker."""

from __future__ import annotations

import logging

import pytest

from engine.attempts import outcome_of
from pg_scheduler._domain import codec
from pg_scheduler._domain.outcomes import Complete, Fail, RetryIn
from pg_scheduler._engine.environment import ALLOW_VARIABLE
from pg_scheduler.errors import InvalidArgument
from pg_scheduler.tasks import task

SECRET = "hunter2"  # noqa: S105 (no password of anybody)
ASKS = codec.encode_with_names([1], {"a": 2}, {"token": "REPORT_TOKEN"})


@task(name="args_from.allowed", args_from=["REPORT_TOKEN"])
async def allowed(number: int, *, a: int, token: str) -> None:
    assert (number, a, token) == (1, 2, SECRET)


async def plain(number: int, *, a: int, token: str) -> None:
    assert (number, a, token) == (1, 2, SECRET)


async def test_value_of_an_allowed_variable_is_an_argument() -> None:
    assert await outcome_of(allowed, payload=ASKS, environment={"REPORT_TOKEN": SECRET}) == Complete()


async def test_worker_may_allow_a_variable_to_all_its_tasks() -> None:
    environment = {"REPORT_TOKEN": SECRET, ALLOW_VARIABLE: "OTHER, REPORT_TOKEN"}

    assert await outcome_of(plain, payload=ASKS, environment=environment) == Complete()


async def test_variable_that_nobody_allows_fails_the_job_for_good() -> None:
    outcome = await outcome_of(plain, payload=ASKS, environment={"REPORT_TOKEN": SECRET}, max_retries=3)

    assert isinstance(outcome, Fail)
    assert outcome.error.type == "ArgsFromNotAllowed"


@pytest.mark.parametrize("name", ["PGPASSWORD", "PGSCHEDULER_DSN"])
async def test_variables_of_postgresql_and_ours_are_never_given(name: str) -> None:
    payload = codec.encode_with_names([1], {"a": 2}, {"token": name})

    outcome = await outcome_of(plain, payload=payload, environment={name: SECRET, ALLOW_VARIABLE: name})

    assert isinstance(outcome, Fail)
    assert outcome.error.type == "ArgsFromNotAllowed"


async def test_variable_that_is_not_set_is_tried_again() -> None:
    outcome = await outcome_of(allowed, payload=ASKS, environment={}, max_retries=3)

    assert isinstance(outcome, RetryIn)
    assert outcome.error.type == "ArgsFromMissing"
    assert "REPORT_TOKEN" in outcome.error.message


async def test_value_is_in_no_log_and_no_error(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    @task(name="args_from.failing", args_from=["REPORT_TOKEN"])
    async def failing(number: int, *, a: int) -> None: ...

    outcome = await outcome_of(failing, payload=ASKS, environment={"REPORT_TOKEN": SECRET})

    assert isinstance(outcome, Fail)
    assert SECRET not in repr(outcome)
    assert SECRET not in caplog.text


@pytest.mark.parametrize("names", ["REPORT_TOKEN", [1], ["PGPASSWORD"], ["PGSCHEDULER_DSN"]])
def test_decorator_refuses_what_is_no_list_of_names_that_may_be_given(names: object) -> None:
    with pytest.raises(InvalidArgument, match="args_from"):
        task(name="args_from.refused", args_from=names)  # type: ignore[call-overload]


def test_keyword_that_is_called_as_the_names_are_is_an_argument() -> None:
    payload = codec.encode([], {"argsFrom": {"token": "X"}})

    assert codec.names_in(payload) == {}
    assert codec.decode(payload) == ([], {"argsFrom": {"token": "X"}})
