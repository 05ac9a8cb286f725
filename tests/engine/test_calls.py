"""How a function is called, and what its end means."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import os
import threading
import time
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pydantic
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import pg_scheduler
from engine.attempts import DUE, TICK, attempt, outcome_of
from engine.processes import die, tell_process
from pg_scheduler import Cancel, Fail, JobContext, RetryPolicy, Scheduler, Snooze, task
from pg_scheduler._domain.outcomes import (
    Cancel as MarkCancelled,
)
from pg_scheduler._domain.outcomes import (
    Complete,
    CompleteWith,
    ErrorRecord,
    KeptResult,
    Outcome,
    Release,
    ReportStopped,
    RetryIn,
    SnoozeFor,
)
from pg_scheduler._domain.outcomes import (
    Fail as MarkFailed,
)
from pg_scheduler._engine.slots import StopReason
from pg_scheduler.errors import InvalidArgument, InvalidArguments
from support.sizes import sized

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import asyncpg

    import pg_scheduler as checked

    from_nowhere = int

pytestmark = pytest.mark.newest_postgres

mark: ContextVar[str] = ContextVar("mark", default="unset")


@dataclasses.dataclass(frozen=True)
class Address:
    street: str
    floor: int = 0


@dataclasses.dataclass(frozen=True)
class Order:
    id: int
    to: Address
    notes: list[str] = dataclasses.field(default_factory=list)
    weight: float | None = None


class Payment(pydantic.BaseModel):
    amount: int
    at: datetime


def error_of(outcome: Outcome) -> ErrorRecord:
    assert isinstance(outcome, MarkFailed | RetryIn), outcome
    return outcome.error


async def test_a_context_tells_the_attempt() -> None:
    seen: list[JobContext] = []

    async def look(ctx: JobContext) -> None:
        seen.append(ctx)

    assert await outcome_of(look) == Complete()

    (ctx,) = seen
    assert (ctx.job_id, ctx.idempotency_key, ctx.token, ctx.attempt) == ("the job", "the job", 17, 3)
    assert (ctx.scheduled_at, ctx.tick, ctx.deadline, ctx.cancel_requested) == (DUE, TICK, None, False)


async def by_object(a: int, ctx: JobContext, *, b: int = 0) -> None:
    assert (a, b, ctx.token) == (1, 2, 17)


async def by_a_name_for_the_checker(a: int, b: int, ctx: checked.JobContext) -> None:
    assert (a, b, ctx.token) == (1, 2, 17)


async def by_module(a: int, b: int, *, ctx: pg_scheduler.JobContext) -> None:
    assert (a, b, ctx.token) == (1, 2, 17)


async def before_all(ctx: JobContext | None, a: int, b: int) -> None:
    assert ctx is not None
    assert (a, b, ctx.token) == (1, 2, 17)


async def of_another_kind(a: from_nowhere, b: int) -> None:
    assert (a, b) == (1, 2)


@pytest.mark.parametrize("function", [by_object, by_module, by_a_name_for_the_checker, before_all, of_another_kind])
async def test_a_context_is_given_by_annotation_wherever_it_stands(
    function: Any, pool: asyncpg.Pool[asyncpg.Record]
) -> None:
    assert await outcome_of(function, 1, kwargs={"b": 2}) == Complete()
    if function is not by_object:  # which takes b by name only
        assert await outcome_of(function, 1, 2) == Complete()
    assert await outcome_of(function, kwargs={"a": 1, "b": 2}) == Complete()

    await Scheduler(pool).schedule(function, execution_time=datetime.now(UTC), args=(1,), kwargs={"b": 2})
    with pytest.raises(InvalidArgument, match="missing a required argument: 'a'"):
        await Scheduler(pool).schedule(function, execution_time=datetime.now(UTC), kwargs={"b": 2})
    with pytest.raises(InvalidArgument, match=r"unexpected keyword argument .ctx."):
        await Scheduler(pool).schedule(function, execution_time=datetime.now(UTC), kwargs={"a": 1, "b": 2, "ctx": 3})


async def test_a_logger_carries_the_job(caplog: pytest.LogCaptureFixture) -> None:
    async def speak(ctx: JobContext) -> None:
        ctx.logger.info("hello", extra={"mine": 1})

    with caplog.at_level(logging.INFO, "pg_scheduler.job"):
        await outcome_of(speak)

    (record,) = [record for record in caplog.records if record.name == "pg_scheduler.job"]
    assert {"job_id": "the job", "token": 17, "attempt": 3, "mine": 1}.items() <= vars(record).items()


async def snooze(ctx: JobContext) -> None:
    ctx.snooze(5)


async def give_back(wish: str) -> Any:
    return {"snooze": Snooze(5), "cancel": Cancel("no need"), "fail": Fail("bad order")}[wish]


async def throw(wish: str) -> None:
    raise {"snooze": Snooze(5), "cancel": Cancel("no need"), "fail": Fail("bad order")}[wish]


@pytest.mark.parametrize("function", [give_back, throw])
async def test_a_wish_is_followed_returned_or_raised(function: Any) -> None:
    assert await outcome_of(snooze, max_retries=5) == SnoozeFor(5)
    assert await outcome_of(function, "snooze", max_retries=5) == SnoozeFor(5)
    assert await outcome_of(function, "cancel", max_retries=5) == MarkCancelled("no need")
    failed = await outcome_of(function, "fail", max_retries=5)
    assert isinstance(failed, MarkFailed)
    assert (failed.error.type, failed.error.message) == ("Fail", "bad order")


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf"), 1e12, "5", None])
async def test_a_snooze_of_no_length_is_an_error_of_the_job(seconds: Any) -> None:
    async def doze() -> None:
        raise Snooze(seconds)

    assert error_of(await outcome_of(doze)).type == "InvalidArgument"


@task(timeout=0.02, retry_policy=RetryPolicy(initial=7))
async def sleep_on() -> None:
    await asyncio.Event().wait()


async def test_a_timeout_is_told_from_the_jobs_own() -> None:
    async def own() -> None:
        raise TimeoutError("mine")

    async def wait(ctx: JobContext) -> None:
        assert ctx.deadline is not None
        try:
            await asyncio.Event().wait()
        finally:
            assert ctx.cancel_requested

    ours = error_of(await outcome_of(wait, timeout_seconds=0.01))
    assert (ours.type, ours.message) == ("JobTimeout", "timed out after 0.01 s")
    assert error_of(await outcome_of(own, timeout_seconds=5)).type == "TimeoutError"
    assert error_of(await outcome_of(sleep_on)).message == "timed out after 0.02 s"
    assert error_of(await outcome_of(sleep_on, timeout_seconds=0.01)).message == "timed out after 0.01 s"


async def test_a_jobs_own_delays_replace_its_tasks() -> None:
    of_task = await outcome_of(sleep_on, max_retries=1)
    of_job = await outcome_of(sleep_on, max_retries=1, retry_policy='{"initial": 9}')
    by_hand = await outcome_of(sleep_on, max_retries=1, retry_policy="[1]")

    assert [outcome.seconds for outcome in (of_task, of_job, by_hand) if isinstance(outcome, RetryIn)] == [7, 9, 7]


@pytest.mark.parametrize(
    ("reason", "on_interrupt", "outcome"),
    [
        (StopReason.SHUTDOWN, "retry", Release),
        (StopReason.SHUTDOWN, "fail", MarkFailed),
        (StopReason.LOST, "fail", ReportStopped),
    ],
)
async def test_a_shutdown_fails_what_must_not_run_twice_once_it_has_started(
    reason: StopReason, on_interrupt: str, outcome: type[Outcome]
) -> None:
    begun = asyncio.Event()

    async def wait() -> None:
        begun.set()
        await asyncio.Event().wait()

    with attempt(wait, on_interrupt=on_interrupt, max_retries=5) as one:
        running = asyncio.create_task(one.run())
        await begun.wait()
        one.held.stop(reason)
        assert isinstance(await running, outcome)
    with attempt(wait, on_interrupt=on_interrupt) as never_started:
        never_started.held.stop(reason)
        assert isinstance(await never_started.run(), ReportStopped if reason is StopReason.LOST else Release)


@pytest.mark.parametrize("kept", [True, False])
async def test_a_result_is_kept_where_asked_for(kept: bool) -> None:
    async def answer(value: Any) -> Any:
        return value

    expected = CompleteWith(KeptResult('{"a":[1,null]}')) if kept else Complete()
    assert await outcome_of(answer, {"a": [1, None]}, keep_result=kept) == expected
    assert await outcome_of(answer, None, keep_result=kept) == (
        CompleteWith(KeptResult("null")) if kept else Complete()
    )


@task(keep_result=True)
async def make(what: str) -> Any:
    return {
        "model": Payment(amount=1, at=DUE),
        "dataclass": [Address("x")],
        "set": {1},
        "nan": float("nan"),
        "huge": "x" * (1024 * 1024 + 1),
        "nul": "a\x00b",
    }[what]


@pytest.mark.parametrize(
    ("what", "value", "words"),
    [
        ("model", '{"amount":1,"at":"2026-01-02T00:00:00Z"}', None),
        ("dataclass", '[{"street":"x","floor":0}]', None),
        ("set", None, "result is a set"),
        ("nan", None, "no such number"),
        ("huge", None, "1048579 bytes"),
        ("nul", None, "NUL"),
    ],
)
async def test_work_that_is_done_is_not_undone_by_a_result_that_cannot_be_kept(
    what: str, value: str | None, words: str | None
) -> None:
    outcome = await outcome_of(make, what, max_retries=5)

    assert isinstance(outcome, CompleteWith)
    assert outcome.result.value == value
    assert (words or "") in (outcome.result.refused or "")


@task
async def ship(order: Order, extra: list[Address] | None = None, *, payment: Payment | None = None) -> Any:
    shipped.append((order, extra, payment))


shipped: list[Any] = []
ORDER = Order(7, Address("Long Lane", 2), ["fragile"], 3)
PAYMENT = Payment(amount=5, at=DUE)


async def test_typed_arguments_come_back_as_they_were_given(pool: asyncpg.Pool[asyncpg.Record]) -> None:
    shipped.clear()
    await Scheduler(pool).schedule(
        ship, execution_time=datetime.now(UTC), args=(ORDER, [Address("x")]), kwargs={"payment": PAYMENT}
    )
    payload = await pool.fetchval("SELECT task_data::text FROM scheduled_jobs")

    assert '"amount":5' in payload
    assert await outcome_of(ship, payload=payload) == Complete()
    assert shipped == [(ORDER, [Address("x")], PAYMENT)]


BAD_ARGUMENTS = [
    (({"id": "7", "to": {"street": "x"}},), r"order\.id is a str, not a int"),
    (({"id": True, "to": {"street": "x"}},), r"order\.id is a bool, not a int"),
    (({"id": 7},), "order is no Order.*missing.*'to'"),
    (({"id": 7, "to": {"street": "x", "roof": 1}},), r"order\.to is no Address.*'roof'"),
    (({"id": 7, "to": {"street": "x"}, "notes": ["a", 1]},), r"order\.notes\[1\] is a int, not a str"),
    (([1],), "order is no Order.*it is a list"),
    (({"id": 7, "to": {"street": "x"}}, {"street": "x"}), "extra"),
]


@pytest.mark.parametrize(("args", "words"), BAD_ARGUMENTS)
async def test_arguments_that_do_not_fit_fail_without_retry_and_are_refused_at_submission(
    pool: asyncpg.Pool[asyncpg.Record], args: tuple[Any, ...], words: str
) -> None:
    outcome = await outcome_of(ship, *args, max_retries=5)

    assert isinstance(outcome, MarkFailed)
    assert outcome.error.type == "InvalidArguments"
    with pytest.raises(InvalidArguments, match=words):
        await Scheduler(pool).schedule(ship, execution_time=datetime.now(UTC), args=args)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text("a7é:-\n", max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["id", "to", "notes", "street", "amount", "at", "x"]), inner, max_size=5)
    ),
    max_leaves=8,
)


@settings(max_examples=sized(60, 2000), deadline=None)
@given(args=st.lists(json_values, max_size=3), kwargs=st.dictionaries(st.sampled_from(["payment", "x"]), json_values))
@example(args=[{"id": 7, "to": {"street": "x"}}], kwargs={})
async def test_whatever_arguments_fit_or_fail_for_good(args: list[Any], kwargs: dict[str, Any]) -> None:
    shipped.clear()

    outcome = await outcome_of(ship, *args, kwargs=kwargs, max_retries=5)

    if outcome == Complete():
        ((order, extra, payment),) = shipped
        assert type(order) is Order
        assert extra is None or {type(one) for one in extra} <= {Address}
        assert payment is None or type(payment) is Payment
    else:
        assert error_of(outcome).type == "InvalidArguments"
        assert isinstance(outcome, MarkFailed)
        assert shipped == []


async def test_a_model_says_what_does_not_fit() -> None:
    order = dataclasses.asdict(ORDER)
    record = error_of(await outcome_of(ship, order, kwargs={"payment": {"amount": "x", "at": "secret"}}, max_retries=5))

    assert record.type == "InvalidArguments"
    assert "payment.amount" in record.message
    assert "payment.at" in record.message
    assert "secret" not in record.message


async def test_plain_functions_are_given_their_json_as_ever() -> None:
    taken: list[Any] = []

    async def take(order: Order) -> None:
        taken.append(order)

    await outcome_of(take, {"id": 1})
    assert taken == [{"id": 1}]


async def test_an_invalid_submission_inside_a_job_is_the_jobs_own_error() -> None:
    @task
    async def typed(order: Order) -> None:
        raise InvalidArguments(f"another's than {order.id}")

    outcome = await outcome_of(typed, dataclasses.asdict(ORDER), max_retries=1)

    assert isinstance(outcome, RetryIn)


async def test_middleware_stands_around_each_job_the_first_outermost() -> None:
    told: list[str] = []

    def telling(name: str) -> Any:
        async def middleware(call: Callable[[], Awaitable[Any]], ctx: JobContext) -> Any:
            told.append(f"{name} before {ctx.job_id}")
            result = await call()
            told.append(f"{name} after {result}")
            return [name, result]

        return middleware

    async def work(n: int) -> int:
        told.append("work")
        return n

    outcome = await outcome_of(work, 1, middleware=[telling("a"), telling("b")], keep_result=True)

    assert told == ["a before the job", "b before the job", "work", "b after 1", "a after ['b', 1]"]
    assert outcome == CompleteWith(KeptResult('["a",["b",1]]'))


async def test_middleware_that_is_none_is_refused(pool: asyncpg.Pool[asyncpg.Record]) -> None:
    class Tracing:
        async def __call__(self, call: Callable[[], Awaitable[Any]], _ctx: JobContext) -> Any:
            return await call()

    Scheduler(pool, middleware=[Tracing()])
    with pytest.raises(TypeError, match="no async function"):
        Scheduler(pool, middleware=[print])  # type: ignore[list-item]  # that is the point


@task(executor="thread", keep_result=True)
def in_thread(n: int) -> list[Any]:
    seen, _ = mark.get(), mark.set("of the job")
    return [n, seen, threading.current_thread() is threading.main_thread()]


async def test_a_plain_function_runs_in_a_thread_with_the_callers_context() -> None:
    mark.set("of the worker")

    assert await outcome_of(in_thread, 1) == CompleteWith(KeptResult('[1,"of the worker",false]'))
    assert mark.get() == "of the worker"


async def test_a_plain_function_runs_in_another_process_and_its_death_is_an_error() -> None:
    outcome = await outcome_of(tell_process, 1)

    assert isinstance(outcome, CompleteWith)
    assert outcome.result.value not in {None, f"[1,{os.getpid()}]"}
    assert error_of(await outcome_of(die)).type == "BrokenProcessPool"


@pytest.mark.parametrize("ending", ["returns", "raises"])
async def test_a_thread_keeps_its_job_until_it_ends(ending: str) -> None:
    begun, gate = threading.Event(), threading.Event()

    @task(executor="thread")
    def block(ctx: JobContext) -> None:
        begun.set()
        gate.wait()
        assert ctx.cancel_requested
        if ending == "raises":
            raise KeyError

    with attempt(block) as one:
        running = asyncio.create_task(one.run())
        await asyncio.to_thread(begun.wait)
        one.held.stop(StopReason.SHUTDOWN)
        for _ in range(3):
            await asyncio.sleep(0)
        ended_early = running.done()
        gate.set()
        assert not ended_early
        assert await running == (Complete() if ending == "returns" else Release())


async def test_threads_run_beside_each_other() -> None:
    meeting = threading.Barrier(2)

    @task(executor="thread")
    def meet() -> None:
        meeting.wait(10)

    with attempt(meet) as one:
        assert set(await asyncio.gather(one.run(), one.run())) == {Complete()}


def test_a_task_is_refused_where_it_could_not_run() -> None:
    def plain() -> None: ...
    async def ready() -> None: ...
    def with_context(ctx: JobContext) -> None: ...

    with pytest.raises(TypeError, match="Only async functions"):
        task(plain)  # type: ignore[type-var]  # that is the point
    with pytest.raises(TypeError, match="plain functions"):
        task(executor="thread")(ready)
    with pytest.raises(InvalidArgument, match="JobContext in another process"):
        task(executor="process")(with_context)
    options: list[tuple[dict[str, Any], str]] = [
        ({"executor": "gpu"}, '"thread" or "process"'),
        ({"timeout": 0}, "timeout is '0'"),
        ({"timeout": float("nan")}, "timeout"),
        ({"timeout": True}, "timeout"),
        ({"retry_policy": 5}, "RetryPolicy"),
    ]
    for wrong, words in options:
        with pytest.raises(InvalidArgument, match=words):
            task(**wrong)


async def test_a_deadline_is_on_the_clock_of_the_loop() -> None:
    async def look(ctx: JobContext) -> None:
        assert ctx.deadline is not None
        assert 0 < ctx.deadline - asyncio.get_running_loop().time() <= 60
        assert abs(asyncio.get_running_loop().time() - time.monotonic()) < 1

    assert await outcome_of(look, timeout_seconds=60) == Complete()
