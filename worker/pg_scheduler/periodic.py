"""``@periodic``: schedules that code declares, without a scheduler.

Invariant: a definition is checked where it is written; the registry holds one for each dedup key.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, TypeVar

from pg_scheduler import tasks
from pg_scheduler._domain import checks, codec
from pg_scheduler._domain.options import NAME_BYTES_MAX, options_of
from pg_scheduler._domain.rules import Interval, Rule
from pg_scheduler._domain.schedules import Template
from pg_scheduler.errors import InvalidArgument, InvalidSchedule
from pg_scheduler.job_priority import JobPriority
from pg_scheduler.job_spec import JobSpec, OnInterrupt
from pg_scheduler.recurrence import cron as cron_rule
from pg_scheduler.recurrence import every as every_rule
from pg_scheduler.retry_policy import RetryPolicy

F = TypeVar("F", bound=Callable[..., Any])
_NO_TIME = datetime(1970, 1, 1, tzinfo=UTC)
"""Stands for the time of a tick where only the options of its job are looked at."""


@dataclass(slots=True)
class PeriodicJobConfig:
    """One declared schedule.

    Attributes:
        func: the async function that each tick runs.
        interval: time between ticks, whole seconds; exactly one of this and ``cron``.
        cron: a five-field expression.
        timezone: IANA name, with ``cron`` only; default Etc/UTC, never the machine's.
        use_advisory_lock: whether at most one run is under way at a time, over the whole fleet; a later tick waits.
        priority: of each tick's job among the due jobs of its queue.
        max_retries: attempts after the first that fails; a retry belongs to its tick.
        job_name: display name of the jobs; ``periodic_`` and the function's name if not given.
        dedup_key: identity over processes, 1 to 200 bytes; derived from module, name and schedule if not given.
        enabled: whether this code wants it to run; a fleet-wide suspension is another thing.
        queue: the queue of the jobs.
        timeout: how long one attempt may take, in seconds or as a timedelta; None any time.
        retry_policy: how long a failed job waits for its next attempt; None the default.
        on_interrupt: ``retry`` or ``fail``: what becomes of a job whose worker died.
        tags: at most 20 words, for listing.
        metadata: a dict that JSON keeps exactly, for people and listing; at most 16 KiB.
        args: positional arguments of each run.
        kwargs: keyword arguments of each run.

    Raises:
        ValueError: neither or both of interval and cron, a timezone without cron, a rule that is refused, or an option
            that cannot be used.
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
    queue: str = field(default="default", kw_only=True)
    timeout: float | timedelta | None = field(default=None, kw_only=True)
    retry_policy: RetryPolicy | None = field(default=None, kw_only=True)
    on_interrupt: OnInterrupt = field(default="retry", kw_only=True)
    tags: Sequence[str] = field(default=(), kw_only=True)
    metadata: Mapping[str, Any] | None = field(default=None, kw_only=True)
    args: Sequence[Any] = field(default=(), kw_only=True)
    kwargs: Mapping[str, Any] | None = field(default=None, kw_only=True)
    rule: Rule = field(init=False)
    has_explicit_key: bool = field(init=False)

    def __post_init__(self) -> None:
        self.has_explicit_key = self.dedup_key is not None
        self.rule = _rule_of(self.interval, self.cron, self.timezone)
        if self.dedup_key is None:
            self.dedup_key = _derived_key(self.func, self.rule)
        if self.job_name is None:
            self.job_name = f"periodic_{self.func.__name__}"
        checks.checked_flag("enabled", self.enabled)
        checks.checked_flag("use_advisory_lock", self.use_advisory_lock)
        checks.checked_text("dedup_key", self.dedup_key, NAME_BYTES_MAX)
        _ = self.template  # which checks every option

    @property
    def source_uid(self) -> str:
        """Identity of the row: the task, and the key where one was given, so that a changed rule edits the same row."""
        task_key = tasks.key_of(self.func)
        return f"{task_key}#{self.dedup_key}" if self.has_explicit_key else task_key

    @property
    def concurrency_key(self) -> str | None:
        """What ``use_advisory_lock`` means: its jobs share a key, whose limit is 1; None without."""
        return f"periodic:{self.source_uid}" if self.use_advisory_lock else None

    @property
    def template(self) -> Template:
        """What each tick runs; ``@task`` above ``@periodic`` may still name the function after this was made."""
        options = options_of(self._spec(), _NO_TIME)
        return Template(
            task=tasks.key_of(self.func),
            job_name=checks.checked_text("job_name", self.job_name, NAME_BYTES_MAX),
            payload=codec.encode(self.args, self.kwargs or {}),
            queue=checks.checked_text("queue", self.queue, NAME_BYTES_MAX),
            priority=checks.checked_priority(self.priority).db_value,
            max_retries=checks.checked_whole("max_retries", self.max_retries),
            timeout_seconds=options.timeout_seconds,
            retry_policy=options.retry_policy,
            on_interrupt=options.on_interrupt,
            tags=options.tags,
            metadata=options.metadata,
            concurrency_key=self.concurrency_key,
        )

    def _spec(self) -> JobSpec:
        return JobSpec(
            self.func,
            _NO_TIME,
            timeout=self.timeout,
            retry_policy=self.retry_policy,
            on_interrupt=self.on_interrupt,
            tags=self.tags,
            metadata=self.metadata,
        )


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
        *,
        queue: str = "default",
        timeout: float | timedelta | None = None,
        retry_policy: RetryPolicy | None = None,
        on_interrupt: OnInterrupt = "retry",
        tags: Sequence[str] = (),
        metadata: Mapping[str, Any] | None = None,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Callable[[F], F]:
        """Run the decorated async function at each tick of a rule, on one worker of the fleet.

        The function comes back unchanged; the schedule is written by the ``start()`` of a scheduler. What the
        parameters mean is said at ``PeriodicJobConfig``. Two rules on one function need a ``dedup_key`` each.

        Raises:
            TypeError: not an async function, or no parentheses.
            ValueError: the rule or an option is refused, or two rules on one function have no keys of their own.
        """
        if callable(every):
            raise TypeError("@periodic needs a rule: write @periodic(every=timedelta(…)) or @periodic(cron=…)")

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
                queue=queue,
                timeout=timeout,
                retry_policy=retry_policy,
                on_interrupt=on_interrupt,
                tags=tags,
                metadata=metadata,
                args=args,
                kwargs=kwargs,
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
    return _cron_rule(cron, "Etc/UTC" if timezone is None else timezone)


def _cron_rule(cron: object, timezone: str) -> Rule:
    if not isinstance(cron, str):
        raise InvalidSchedule(f"cron is a {type(cron).__name__}", field="cron", fix='give text, such as "30 2 * * *"')
    try:
        return cron_rule(cron, time_zone=timezone)
    except InvalidSchedule as error:
        if error.field != "timeZone":
            raise
        raise InvalidSchedule(
            f"Invalid timezone {str(timezone)[:64]!r}: {error.what}",
            field="timezone",
            why=error.why,
            fix=error.fix,
        ) from error


def _derived_key(function: Callable[..., Any], rule: Rule) -> str:
    shown = f"every {rule.every_seconds}" if isinstance(rule, Interval) else f"{rule.expressions[0]} {rule.time_zone}"
    text = f"{function.__module__}|{function.__name__}|{shown}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _require_distinct(known: PeriodicJobConfig, new: PeriodicJobConfig) -> None:
    same_function = tasks.key_of(known.func) == tasks.key_of(new.func)
    if known.dedup_key == new.dedup_key and known.func is new.func:
        raise InvalidArgument(
            f"{tasks.key_of(new.func)} has two schedules under the key {new.dedup_key!r}",
            fix="give each one of its own",
        )
    if known.dedup_key == new.dedup_key and not same_function:
        raise InvalidArgument(
            f"dedup_key {new.dedup_key!r} belongs to {tasks.key_of(known.func)}", fix="give this schedule another key"
        )
    if same_function and known.dedup_key != new.dedup_key and not (known.has_explicit_key and new.has_explicit_key):
        raise InvalidArgument(f"{tasks.key_of(new.func)} has two schedules", fix="give each a dedup_key of its own")
