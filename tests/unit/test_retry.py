"""Delays between attempts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pg_scheduler._domain.retry import DEFAULT_POLICY, delay_seconds, policy_of
from pg_scheduler.retry_policy import RetryPolicy

POLICIES = st.builds(
    lambda initial, longer, factor, jitter: RetryPolicy(
        initial=initial, maximum=initial + longer, factor=factor, jitter=jitter
    ),
    st.floats(0, 1000) | st.integers(0, 1000),
    st.floats(0, 1e6),
    st.floats(1, 100) | st.integers(1, 100),
    st.floats(0, 1),
)


def test_default_delays_are_those_of_the_older_package() -> None:
    assert [delay_seconds(DEFAULT_POLICY, used, 0.5) for used in range(5)] == [60, 120, 240, 300, 300]


@given(POLICIES, st.integers(0, 2**31), st.floats(0, 1))
def test_a_delay_stays_within_the_jitter_around_its_maximum(policy: RetryPolicy, used: int, chance: float) -> None:
    assert 0 <= delay_seconds(policy, used, chance) <= policy.maximum * (1 + policy.jitter) * (1 + 1e-9)


@given(POLICIES, st.integers(0, 1000))
def test_delays_never_become_shorter(policy: RetryPolicy, used: int) -> None:
    assert delay_seconds(policy, used + 1, 0.5) >= delay_seconds(policy, used, 0.5)


def test_the_jobs_own_policy_counts_before_its_tasks() -> None:
    of_task = RetryPolicy(initial=7)

    assert policy_of('{"initial": 9}', of_task) == RetryPolicy(initial=9)
    assert policy_of(None, of_task) == of_task
    assert policy_of("not a policy", of_task) == of_task
    assert policy_of(None, None) == policy_of("[]", None) == DEFAULT_POLICY
