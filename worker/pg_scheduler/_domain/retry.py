"""How long a failed job waits for its next attempt."""

DELAYS_SECONDS = (60, 120, 240, 300)
"""Before the first, second, third and every later retry; the older package's figures (design page 2 §2.6)."""


def delay_seconds(retry_count: int) -> int:
    """Seconds to wait when ``retry_count`` retries have been used already."""
    return DELAYS_SECONDS[min(retry_count, len(DELAYS_SECONDS) - 1)]
