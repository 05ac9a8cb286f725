"""The pace of polling where PostgreSQL cannot wake the worker (behind a pooler in transaction mode)."""

from dataclasses import dataclass


@dataclass(frozen=True)
class PollingConfig:
    """Pace of the poll-only mode, in seconds; with LISTEN working the poll is a slow safety net instead.

    Raises:
        ValueError: an interval is negative, ``max_interval < min_interval``, or the multiplier is below 1.
    """

    min_interval: float = 0.05
    max_interval: float = 2.0
    backoff_multiplier: float = 1.5
    idle_start_interval: float = 0.5
    semaphore_full_interval: float = 1.0
    jitter: bool = True

    def __post_init__(self) -> None:
        for name in ("min_interval", "max_interval", "idle_start_interval", "semaphore_full_interval"):
            seconds = getattr(self, name)
            if not seconds >= 0:
                raise ValueError(f"PollingConfig.{name} is {seconds!r}: give a number of seconds, 0 or more")
        if self.max_interval < self.min_interval:
            raise ValueError(
                f"PollingConfig.max_interval is {self.max_interval!r}, below min_interval {self.min_interval!r}"
            )
        if not self.backoff_multiplier >= 1:
            raise ValueError(f"PollingConfig.backoff_multiplier is {self.backoff_multiplier!r}: give 1 or more")
