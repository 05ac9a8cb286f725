"""How long a worker that nobody can wake sleeps between two looks.

Invariant: never longer than ``max_interval``, and, but for a due time that is nearer, never shorter than
``min_interval``.
"""

from pg_scheduler.polling import PollingConfig


def idle_interval(config: PollingConfig, empty_looks: int) -> float:
    """Seconds to sleep after so many looks in a row that found nothing, without jitter."""
    seconds = config.idle_start_interval
    for _ in range(1, empty_looks):
        if seconds >= config.max_interval or config.backoff_multiplier == 1 or not seconds:
            break
        seconds *= config.backoff_multiplier
    return max(config.min_interval, min(config.max_interval, seconds))


def until_due(interval: float, due_in: float | None, *, shortest: float) -> float:
    """Seconds of an interval, cut to those until a job falls due; ``shortest`` when it is due and another holds it."""
    if due_in is None:
        return interval
    return min(interval, due_in) if due_in > 0 else min(interval, shortest)
