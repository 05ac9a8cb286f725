"""``@periodic``: schedules that code declares, without a scheduler.

Invariant: a definition is checked where it is written; the registry holds one for each dedup key.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, ClassVar, TypeVar

from pg_scheduler import tasks
from pg_scheduler._domain.rules import Interval, Rule
from pg_scheduler.errors import InvalidArgument
from pg_scheduler.job_priority import JobPriority
from pg_scheduler.recurrence import cron as cron_rule
from pg_scheduler.recurrence import every as every_rule

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(slots=True)
class PeriodicJobConfig:
    """One declared schedule.

    Attributes:
        func: the async function that each tick runs.
        interval: time between ticks; exactly one of this and ``cron``.
        cron: a five-field expression.
        timezone: IANA name, with ``cron`` only; default Etc/UTC, never the machine's.
        dedup_key: identity over processes; derived from module, name and schedule if not given.
        enabled: whether this code wants it to run; a fleet-wide suspension is another thing.
        use_advisory_lock: whether at most one run is under way at a time, over the whole fleet; a later tick waits.

    Raises:
        ValueError: neither or both of interval and cron, a timezone without cron, or a rule that is refused.
    """

    func: Callable[..., Any]
    interval: timedelta | None = None
    cron: str | None = None
    timezone: str | None = None
    use_advisory_lock: bool = False
    priority: JobPriority = JobPriority.NORMAL
    max_retries: int = 0
    job_name: str | None = None
    dedup_key: str | None = None
    enabled: bool = True
    rule: Rule = field(init=False)
    has_explicit_key: bool = field(init=False)

    def __post_init__(self) -> None:
        self.has_explicit_key = self.dedup_key is not None
        self.rule = _rule_of(self.interval, self.cron, self.timezone)
        self.job_name = self.job_name or f"periodic_{self.func.__name__}"
        self.dedup_key = self.dedup_key or _derived_key(self.func, self.rule)

    @property
    def source_uid(self) -> str:
        """Identity of the row: the task, and the key where one was given, so that a changed rule edits the same row."""
        task_key = tasks.key_of(self.func)
        return f"{task_key}#{self.dedup_key}" if self.has_explicit_key else task_key

    @property
    def concurrency_key(self) -> str | None:
        """What ``use_advisory_lock`` means: its jobs share a key, whose limit is 1; None without."""
        return f"periodic:{self.source_uid}" if self.use_advisory_lock else None


class PeriodicRegistry:
    """Definitions by dedup key."""

    def __init__(self) -> None:
        self._definitions: dict[str, PeriodicJobConfig] = {}

    def add(self, definition: PeriodicJobConfig) -> None:
        """Register.

        Raises:
            InvalidArgument: another function holds the key, or two rules of one function have no keys of their own.
        """
        for known in self._definitions.values():
            _require_distinct(known, definition)
        self._definitions[str(definition.dedup_key)] = definition

    def all(self) -> dict[str, PeriodicJobConfig]:
        """A copy: the definitions by dedup key."""
        return dict(self._definitions)


registry = PeriodicRegistry()
"""The schedules that decorators of this process have declared."""


class PeriodicDecorator:
    """The decorator; an object, so that ``pg_scheduler.periodic.PeriodicJobConfig`` is found on it as on the module."""

    PeriodicJobConfig: ClassVar = PeriodicJobConfig

    def __call__(
        self,
        every: timedelta | None = None,
        cron: str | None = None,
        timezone: str | None = None,
        use_advisory_lock: bool = False,
        priority: JobPriority = JobPriority.NORMAL,
        max_retries: int = 0,
        job_name: str | None = None,
        dedup_key: str | None = None,
        enabled: bool = True,
    ) -> Callable[[F], F]:
        """Run the decorated async function at each tick of a rule, on one worker of the fleet.

        Raises:
            TypeError: not an async function.
            ValueError: the rule is refused, or two rules on one function have no keys of their own.
        """

        def declare(function: F) -> F:
            _require_async(function)
            definition = PeriodicJobConfig(
                func=function,
                interval=every,
                cron=cron,
                timezone=timezone,
                use_advisory_lock=use_advisory_lock,
                priority=priority,
                max_retries=max_retries,
                job_name=job_name,
                dedup_key=dedup_key,
                enabled=enabled,
            )
            registry.add(definition)
            return function

        return declare


periodic = PeriodicDecorator()


def _require_async(function: object) -> None:
    try:
        tasks.require_async(function)
    except TypeError as error:
        raise TypeError(f"Expected an async function: {error}") from error


def _rule_of(interval: timedelta | None, cron: str | None, timezone: str | None) -> Rule:
    if (interval is None) == (cron is None):
        raise InvalidArgument("Either every or cron is needed, and not both", fix="give exactly one of them")
    if interval is not None:
        if timezone is not None:
            raise InvalidArgument("timezone is for cron only", fix="leave it out: an interval is the same everywhere")
        return every_rule(interval)
    return cron_rule(str(cron), time_zone="Etc/UTC" if timezone is None else timezone)


def _derived_key(function: Callable[..., Any], rule: Rule) -> str:
    shown = f"every {rule.every_seconds}" if isinstance(rule, Interval) else f"{rule.expressions[0]} {rule.time_zone}"
    text = f"{function.__module__}|{function.__name__}|{shown}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _require_distinct(known: PeriodicJobConfig, new: PeriodicJobConfig) -> None:
    same_function = tasks.key_of(known.func) == tasks.key_of(new.func)
    if known.dedup_key == new.dedup_key and not same_function:
        raise InvalidArgument(
            f"dedup_key {new.dedup_key!r} belongs to {tasks.key_of(known.func)}", fix="give this schedule another key"
        )
    if same_function and known.dedup_key != new.dedup_key and not (known.has_explicit_key and new.has_explicit_key):
        raise InvalidArgument(f"{tasks.key_of(new.func)} has two schedules", fix="give each a dedup_key of its own")
