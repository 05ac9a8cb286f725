"""``@periodic``: schedules that code declares, without a scheduler.

Invariant: a definition is checked where it is written; the registry holds one for each dedup key.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, TypeVar, Unpack

from pg_scheduler import tasks
from pg_scheduler._domain import checks, codec
from pg_scheduler._domain.options import NAME_BYTES_MAX, options_of
from pg_scheduler._domain.policies import Missed, Overlap, Policy
from pg_scheduler._domain.rules import Ambiguous, Bounds, Interval, Nonexistent, Rule
from pg_scheduler._domain.schedules import Template
from pg_scheduler.errors import InvalidArgument
from pg_scheduler.job_priority import JobPriority
from pg_scheduler.job_spec import JobSpec, OnInterrupt
from pg_scheduler.retry_policy import RetryPolicy
from pg_scheduler.schedule_options import ScheduleOptions, bounds_of, policy_of, rule_of

F = TypeVar("F", bound=Callable[..., Any])
_NO_TIME = datetime(1970, 1, 1, tzinfo=UTC)
"""Stands for the time of a tick where only the options of its job are looked at."""


@dataclass(slots=True)
class PeriodicJobConfig:
    """One declared schedule.

    Attributes:
        func: the async function that each tick runs.
        interval: time between ticks, whole seconds; exactly one of this and ``cron``.
        cron: a five-field expression, or up to 16 of them, whose ticks are their union.
        timezone: IANA name, with ``cron`` only; default Etc/UTC, never the machine's.
        use_advisory_lock: whether at most one run is under way at a time, over the whole fleet; each later tick waits.
            Not together with ``overlap``.
        priority: of each tick's job among the due jobs of its queue.
        max_retries: attempts after the first that fails; a retry belongs to its tick.
        job_name: display name of the jobs; ``periodic_`` and the function's name if not given.
        dedup_key: identity over processes, 1 to 200 bytes; derived from module, name and schedule if not given.
        enabled: whether this code wants it to run; a fleet-wide suspension is another thing.
        phase: how long after its place on the grid an interval ticks; whole seconds, below the interval.
        seconds: the field of the seconds at which each minute of ``cron`` ticks, such as ``"0,20,40"``.
        nonexistent: of a minute that a change of clocks leaves out: ``shift_forward`` to the end of the gap, or
            ``skip``.
        ambiguous: of a minute that comes twice: the ``first``, the ``last``, or ``both``.
        jitter: a run becomes due up to so many seconds after its tick, the same for the same tick everywhere.
        start_at: no tick is earlier.
        end_at: no tick is later.
        max_runs: how many runs there are at most; None without limit.
        missed: of ticks that passed while nobody was there: ``run_latest``, ``skip``, or ``run_all``.
        max_catch_up: how many ``run_all`` makes up for at most, the latest.
        starting_deadline: how late a run may start, in seconds or as a timedelta; None without limit.
        overlap: of a tick whose predecessor has not ended: ``allow``, ``skip``, ``queue`` (one waits) or ``replace``.
        suspend_after_failures: after so many failed runs in a row it ticks no more until somebody resumes it.
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
    cron: str | Sequence[str] | None = None
    timezone: str | None = None
    use_advisory_lock: bool = False
    priority: JobPriority = JobPriority.NORMAL
    max_retries: int = 0
    job_name: str | None = None
    dedup_key: str | None = None
    enabled: bool = True
    phase: timedelta = field(default=timedelta(0), kw_only=True)
    seconds: str = field(default="0", kw_only=True)
    nonexistent: Nonexistent = field(default="shift_forward", kw_only=True)
    ambiguous: Ambiguous = field(default="first", kw_only=True)
    jitter: float | timedelta = field(default=0, kw_only=True)
    start_at: datetime | None = field(default=None, kw_only=True)
    end_at: datetime | None = field(default=None, kw_only=True)
    max_runs: int | None = field(default=None, kw_only=True)
    missed: Missed = field(default="run_latest", kw_only=True)
    max_catch_up: int = field(default=100, kw_only=True)
    starting_deadline: float | timedelta | None = field(default=None, kw_only=True)
    overlap: Overlap = field(default="allow", kw_only=True)
    suspend_after_failures: int | None = field(default=None, kw_only=True)
    queue: str = field(default="default", kw_only=True)
    timeout: float | timedelta | None = field(default=None, kw_only=True)
    retry_policy: RetryPolicy | None = field(default=None, kw_only=True)
    on_interrupt: OnInterrupt = field(default="retry", kw_only=True)
    tags: Sequence[str] = field(default=(), kw_only=True)
    metadata: Mapping[str, Any] | None = field(default=None, kw_only=True)
    args: Sequence[Any] = field(default=(), kw_only=True)
    kwargs: Mapping[str, Any] | None = field(default=None, kw_only=True)
    rule: Rule = field(init=False)
    bounds: Bounds = field(init=False)
    policy: Policy = field(init=False)
    has_explicit_key: bool = field(init=False)

    def __post_init__(self) -> None:
        self.has_explicit_key = self.dedup_key is not None
        self.rule = rule_of(
            self.interval,
            self.cron,
            self.timezone,
            phase=self.phase,
            seconds=self.seconds,
            nonexistent=self.nonexistent,
            ambiguous=self.ambiguous,
        )
        self.bounds = bounds_of(self.jitter, self.start_at, self.end_at, self.max_runs)
        self.policy = policy_of(
            self.missed, self.max_catch_up, self.starting_deadline, self.overlap, self.suspend_after_failures
        )
        if self.dedup_key is None:
            self.dedup_key = _derived_key(self.func, self.rule)
        if self.job_name is None:
            self.job_name = f"periodic_{self.func.__name__}"
        checks.checked_flag("enabled", self.enabled)
        checks.checked_flag("use_advisory_lock", self.use_advisory_lock)
        if self.use_advisory_lock and self.overlap != "allow":
            raise InvalidArgument("use_advisory_lock and overlap are given", fix="give only overlap, which says more")
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
        cron: str | Sequence[str] | None = None,
        timezone: str | None = None,
        use_advisory_lock: bool = False,
        priority: JobPriority = JobPriority.NORMAL,
        max_retries: int = 0,
        job_name: str | None = None,
        dedup_key: str | None = None,
        enabled: bool = True,
        **options: Unpack[ScheduleOptions],
    ) -> Callable[[F], F]:
        """Run the decorated async function at each tick of a rule, on one worker of the fleet.

        The function comes back unchanged; the schedule is written by the ``start()`` of a scheduler. What the
        parameters mean is said at ``PeriodicJobConfig``, ``options`` are the keywords of ``ScheduleOptions``. Two rules
        on one function need a ``dedup_key`` each.

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
                **options,
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


def _derived_key(function: Callable[..., Any], rule: Rule) -> str:
    shown = (
        f"every {rule.every_seconds}"
        if isinstance(rule, Interval)
        else f"{';'.join(rule.expressions)} {rule.time_zone}"
    )
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
