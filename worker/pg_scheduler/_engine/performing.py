"""One attempt of a job, from its row to what becomes of it.

Invariant: whatever a job does (return, raise, cancel itself, take arguments that do not fit) becomes an outcome.
"""

import asyncio
import logging
import math
import random
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from contextvars import copy_context
from typing import Any, assert_never

from pg_scheduler._domain import codec, typed_arguments
from pg_scheduler._domain.outcomes import (
    CancelledItself,
    Complete,
    Ending,
    ErrorRecord,
    GivenBack,
    KeptResult,
    Lost,
    Outcome,
    Raised,
    Returned,
    Settled,
    Snoozed,
    decide,
    storable,
)
from pg_scheduler._domain.payloads import PLAIN, Payloads
from pg_scheduler._engine.calls import CallPlan, Calls
from pg_scheduler._engine.environment import Environment
from pg_scheduler._engine.slots import HeldJob, StopReason
from pg_scheduler._engine.steps import Rest, first_step
from pg_scheduler.context import Cancel, Fail, Snooze
from pg_scheduler.errors import (
    ArgsFromMissing,
    ArgsFromNotAllowed,
    InvalidArgument,
    InvalidArguments,
    InvalidPayload,
    JobTimeout,
)

SNOOZE_SECONDS_MAX = 366 * 24 * 3600

TimeLimit = Callable[[float | None], AbstractAsyncContextManager[asyncio.Timeout]]

logger = logging.getLogger("pg_scheduler.engine")

_COMPLETE = Complete()
_RETURNED = Returned()


def _chance() -> float:
    return random.random()  # noqa: S311  it spreads retries


class Performer:
    """Runs attempts; ``time_limit`` ends a block after so many seconds, ``chance`` places a delay in its jitter."""

    def __init__(
        self,
        calls: Calls,
        *,
        environment: Environment,
        payloads: Payloads = PLAIN,
        time_limit: TimeLimit = asyncio.timeout,
        chance: Callable[[], float] = _chance,
    ) -> None:
        self._calls = calls
        self._environment = environment
        self._payloads, self._opened = payloads, payloads.opened
        self._time_limit = time_limit
        self._chance = chance

    async def perform(self, held: HeldJob, me: asyncio.Task[None]) -> Outcome:
        """See the job to its end in the task ``me``, which becomes its own once it waits for something."""
        job = held.job
        plan = self._calls.plan(job.task)
        if held.stop_reason is not None:
            return self._outcome(held, plan, _stopped(held.stop_reason, started=False))
        try:
            payload = self._opened(job.payload)
            args, kwargs = codec.decode(payload)
            if codec.NAMES in payload:
                kwargs |= self._environment.values(codec.names_in(payload), plan.options.args_from)
        except (InvalidPayload, ArgsFromNotAllowed) as error:
            return self._outcome(held, plan, Raised(ErrorRecord.of(error), final=True))
        except ArgsFromMissing as error:  # another worker may have it
            return self._outcome(held, plan, Raised(ErrorRecord.of(error)))
        keep = job.keep_result or plan.options.keep_result
        try:
            if plan.is_plain and job.timeout_seconds is None:
                value = first_step(plan.function(*args, **kwargs), copy_context())
                if type(value) is Rest:
                    held.task = me
                    value = await value
            else:
                value = await self._value_of(plan, held, me, args, kwargs)
        except (KeyboardInterrupt, GeneratorExit):
            raise  # these are the process's, not the job's
        except BaseException as error:  # noqa: BLE001  user code may raise anything, sys.exit too, and all is recorded
            return self._outcome(held, plan, _ending_of_error(held, error))
        if value is None and not keep and not held.settled:  # what nearly every job does
            return _COMPLETE
        return self._outcome(held, plan, self._ending_of_value(value, job.payload, keep=keep))

    async def _value_of(
        self, plan: CallPlan, held: HeldJob, me: asyncio.Task[None], args: list[Any], kwargs: dict[str, Any]
    ) -> Any:
        seconds = plan.options.timeout if held.job.timeout_seconds is None else held.job.timeout_seconds
        deadline = None if seconds is None else asyncio.get_running_loop().time() + seconds
        try:
            async with self._time_limit(seconds) as limit:
                return await self._drive(plan, held, me, args, kwargs, deadline)
        except TimeoutError as error:
            if not limit.expired():
                raise  # the job's own, recorded as what it is
            raise JobTimeout(f"timed out after {seconds:g} s") from error

    async def _drive(
        self,
        plan: CallPlan,
        held: HeldJob,
        me: asyncio.Task[None],
        args: list[Any],
        kwargs: dict[str, Any],
        deadline: float | None,
    ) -> Any:
        try:
            coroutine = self._calls.begin(plan, held, args, kwargs, deadline)
        except InvalidArguments as error:
            raise _Unfit from error
        value = first_step(coroutine, copy_context())
        if type(value) is Rest:
            held.task = me
            value = await value
        return value

    def _ending_of_value(self, value: Any, payload: str, *, keep: bool) -> Ending:
        if isinstance(value, Snooze | Cancel | Fail):
            return _ending_of_wish(value)
        return Returned(self._kept(value, payload)) if keep else _RETURNED

    def _kept(self, value: Any, payload: str) -> KeptResult:
        """The work is done and is not done again because of what it returned: the reason is kept in its place."""
        try:
            return KeptResult(self._payloads.answering(payload, codec.encode_result(typed_arguments.plain(value))))
        except InvalidPayload as error:
            return KeptResult(None, refused=storable(str(error)))

    def _outcome(self, held: HeldJob, plan: CallPlan, ending: Ending) -> Outcome:
        job = held.job
        if isinstance(ending, Raised):
            told = "ended with an error after it had completed" if held.settled else "failed"
            logger.warning("job %s (%s) attempt %d %s: %s", job.job_id, job.task, job.attempt, told, ending.error.type)
        if held.settled:
            ending = Settled()
        return decide(job, ending, task_policy=plan.options.retry_policy, chance=self._chance())


class _Unfit(Exception):
    """The arguments do not fit the function: another attempt would not fit either."""


def _ending_of_error(held: HeldJob, error: BaseException) -> Ending:
    match error:
        case asyncio.CancelledError() if held.stop_reason is not None:
            return _stopped(held.stop_reason, started=True)
        case Snooze() | Cancel() | Fail():
            return _ending_of_wish(error)
        case _Unfit(__cause__=InvalidArguments() as unfit):
            return Raised(ErrorRecord.of(unfit), final=True)
        case _:
            return Raised(ErrorRecord.of(error))


def _ending_of_wish(wish: Snooze | Cancel | Fail) -> Ending:
    match wish:
        case Snooze(seconds=seconds):
            return _snoozed(seconds)
        case Cancel(reason=reason):
            return CancelledItself(storable(str(reason)))
        case Fail():
            return Raised(ErrorRecord.of(wish), final=True)
        case _:
            assert_never(wish)


def _snoozed(seconds: object) -> Ending:
    if isinstance(seconds, int | float) and math.isfinite(seconds) and 0 <= seconds <= SNOOZE_SECONDS_MAX:
        return Snoozed(float(seconds))
    error = InvalidArgument(f"Snooze({str(seconds)[:40]})", fix=f"give seconds from 0 to {SNOOZE_SECONDS_MAX}")
    return Raised(ErrorRecord.of(error))


def _stopped(reason: StopReason, *, started: bool) -> Ending:
    match reason:
        case StopReason.LOST:
            return Lost()
        case StopReason.SHUTDOWN:
            return GivenBack(started=started)
        case _:
            assert_never(reason)
