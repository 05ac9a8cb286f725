"""How long a failed job waits for its next attempt."""

from pg_scheduler.errors import InvalidArgument
from pg_scheduler.retry_policy import RetryPolicy

DEFAULT_POLICY = RetryPolicy()
"""60, 120, 240, then always 300 seconds; the older package's figures (design page 2 §2.6)."""


def policy_of(of_job: str | None, of_task: RetryPolicy | None) -> RetryPolicy:
    """The policy that counts: the job's own, else its task's, else the default.

    A row written by hand may hold one that is none: then the job is as good as without.
    """
    if of_job is not None:
        try:
            return RetryPolicy.from_json(of_job)
        except InvalidArgument:
            return of_task or DEFAULT_POLICY
    return of_task or DEFAULT_POLICY


def delay_seconds(policy: RetryPolicy, retry_count: int, chance: float) -> float:
    """Seconds to wait when ``retry_count`` retries have been used; ``chance``, 0 to 1, places it within the jitter."""
    try:
        longer = policy.initial * float(policy.factor) ** retry_count  # of whole numbers it would take minutes
    except OverflowError:
        longer = policy.maximum
    spread = policy.jitter * (2 * chance - 1)
    return max(0.0, min(longer, policy.maximum) * (1 + spread))
