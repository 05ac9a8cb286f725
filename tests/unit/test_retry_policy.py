"""Delays of retries: what a policy may say, and its form in a row."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pg_scheduler.errors import InvalidArgument
from pg_scheduler.retry_policy import RetryPolicy


@given(
    initial=st.floats(0, 1000) | st.integers(0, 1000),
    longer=st.floats(0, 1e6),
    factor=st.floats(1, 100),
    jitter=st.floats(0, 1),
)
def test_policy_comes_back_from_its_json_form(initial: float, longer: float, factor: float, jitter: float) -> None:
    policy = RetryPolicy(initial=initial, maximum=initial + longer, factor=factor, jitter=jitter)

    assert RetryPolicy.from_json(policy.to_json()) == policy


def test_policy_of_a_row_may_leave_figures_out() -> None:
    assert RetryPolicy.from_json('{"initial": 5}') == RetryPolicy(initial=5)


@pytest.mark.parametrize(
    ("figures", "words"),
    [
        ({"initial": -1}, "initial is '-1'.*0 to"),
        ({"initial": math.nan}, "initial is 'nan'"),
        ({"initial": "60"}, "initial is '60'"),
        ({"initial": True}, "initial is 'True'"),
        ({"initial": 400}, "maximum is '300'.*400 to"),
        ({"maximum": math.inf}, "maximum is 'inf'"),
        ({"factor": 0.5}, "factor is '0.5'.*1 to 100"),
        ({"jitter": 1.5}, "jitter is '1.5'.*0 to 1"),
    ],
)
def test_policy_refuses_a_figure_out_of_its_range(figures: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidArgument, match=f"retry_policy: {words}"):
        RetryPolicy(**figures)


@pytest.mark.parametrize("text", ["", "[]", "7", '{"first": 1}', '{"initial": null}'])
def test_policy_refuses_another_json_form(text: str) -> None:
    with pytest.raises(InvalidArgument, match="retry_policy"):
        RetryPolicy.from_json(text)
