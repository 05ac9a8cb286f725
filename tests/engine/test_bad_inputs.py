"""What a person can get wrong: each gets an error that names the field and the way out, before anything is written."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import asyncpg
import pytest
from pydantic import BaseModel

from pg_scheduler import ConflictResolution, JobFilter, JobSpec, RetryPolicy, Scheduler, Unique
from pg_scheduler._domain import checks
from pg_scheduler.errors import InvalidArgument, InvalidPayload, SchemaMismatch
from support.databases import EMPTY

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

pytestmark = pytest.mark.newest_postgres

LATER = datetime.now(UTC) + timedelta(days=1)


async def note(n: Any = 0, *, name: str = "") -> None: ...


def plain() -> None: ...


async def stream() -> AsyncIterator[int]:
    yield 1


class Caller:
    async def method(self) -> None: ...

    async def __call__(self) -> None: ...


@dataclass
class Order:
    id: int = 1


class Model(BaseModel):
    id: int = 1


def circular() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth - 1):
        value = [value]
    return value


FUNCTIONS = [
    (lambda: None, "<lambda> is not one: define it with async def"),
    (plain, "plain is not one: define it with async def"),
    (partial(note, 1), "partial is not one: define a function with async def that calls it"),
    (Caller().method, "method is not one: use a function, not an object's method"),
    (Caller(), "Caller is not one: define a function with async def that calls it"),
    (Caller, "Caller is not one: define a function with async def that calls it"),
    (stream, "stream is not one: return a value instead of yielding some"),
    (note(), "note is not one: define a function with async def that calls it"),
    ("note", "str is not one: define a function with async def that calls it"),
    (None, "NoneType is not one: define a function with async def that calls it"),
    ([], "list is not one: define a function with async def that calls it"),
]
FUNCTIONS[7][0].close()  # type: ignore[attr-defined]  # a coroutine that nobody is to await

ARGUMENTS = [
    ((math.nan,), r"args\[0\] is nan\. JSON has no such number\. pass None or a string"),
    ((-math.inf,), r"args\[0\] is -inf\. JSON has no such number\. pass None"),
    (("a\x00",), r"args\[0\] contains a NUL character"),
    (("\ud800",), r"args\[0\] contains half a surrogate pair"),
    ((b"raw",), r"args\[0\] is a bytes\. encode it, with base64"),
    (({1},), r"args\[0\] is a set\. pass a sorted list"),
    ((1j,), r"args\[0\] is a complex\. pass its two parts"),
    ((Decimal(1),), r"args\[0\] is a Decimal\. pass str\(value\)"),
    ((uuid4(),), r"args\[0\] is a UUID\. pass str\(value\)"),
    ((LATER,), r"args\[0\] is a datetime\. pass \.isoformat"),
    ((timedelta(1),), r"args\[0\] is a timedelta\. pass \.total_seconds"),
    ((Order(),), r"args\[0\] is a Order\. pass dataclasses\.asdict\(value\)"),
    ((Model(),), r"args\[0\] is a Model\. pass value\.model_dump\(mode=.json.\)"),
    (([{"a": object()}],), r"args\[0\]\[0\]\['a'\] is a object\. pass text, numbers"),
    (({1: "a", "1": "b"},), r"args\[0\] has two keys that JSON writes alike: '1'\. use text keys"),
    (({1.5: "a"},), r"args\[0\] has a key of type float\. use text keys"),
    ((10**1000,), r"args\[0\] is a number of more than 1000 digits\. pass it as a string"),
    ((circular(),), r"nested deeper than 64 levels\. or it contains itself\. flatten"),
    ((nested(64),), r"nested deeper than 64 levels"),
    (
        ("x" * (1024 * 1024),),
        r"the arguments are 10486\d\d bytes as JSON\. at most 1048576 are stored\. store the data",
    ),
    ("text", r"args is a str\. give a list or tuple"),
    (7, r"args is a int\. give a list or tuple"),
    ((1, 2), r"note cannot be called with these arguments: too many positional"),
]
OPTIONS: list[tuple[str, Any, str]] = [
    ("kwargs", [1], r"kwargs is a list\. give a dict"),
    ("kwargs", {"m": 1}, r"note cannot be called with these arguments: got an unexpected keyword argument 'm'"),
    ("kwargs", {"n": math.nan}, r"kwargs\['n'\] is nan"),
    ("execution_time", datetime(2030, 1, 1), r"execution_time 2030.* has no time zone\. .*use datetime\.now\(UTC\)"),  # noqa: DTZ001  the point
    ("execution_time", datetime.max.replace(tzinfo=UTC), r"execution_time 9999.* is too late\. give a year"),
    ("execution_time", datetime(1, 1, 1, tzinfo=UTC), r"execution_time 0001.* is too early\. give a year"),
    ("execution_time", date(2030, 1, 1), r"execution_time is a date.*aware datetime"),
    ("execution_time", 1.5, r"execution_time is a float.*aware datetime"),
    ("execution_time", "2030-01-01T00:00:00Z", r"execution_time is a str.*aware datetime"),
    ("execution_time", timedelta(1), r"execution_time is a timedelta.*give datetime\.now\(UTC\) \+ it"),
    ("execution_time", None, r"execution_time is a NoneType.*aware datetime"),
    ("job_id", "", r"job_id is ''\. give text of 1 to 200 bytes"),
    ("job_id", "ä" * 101, r"job_id is 'ää.*give text of 1 to 200 bytes"),
    ("job_id", "a\x00", r"job_id is .*give text"),
    ("job_id", 7, r"job_id is '7'\. give text"),
    ("job_id", "sj-1", r"job_id 'sj-1' begins with a reserved prefix.*custom resources"),
    ("job_id", "pj-1", r"reserved prefix"),
    ("job_id", "key:1", r"reserved prefix"),
    ("misfire_grace_time", -1, r"misfire_grace_time is '-1'\. give a whole number from 0"),
    ("misfire_grace_time", math.nan, r"misfire_grace_time is 'nan'"),
    ("misfire_grace_time", 2**31, r"misfire_grace_time is '2147483648'"),
    ("misfire_grace_time", True, r"misfire_grace_time is 'True'"),
    ("priority", 5, r"priority is '5'\. give a JobPriority"),
    ("priority", ConflictResolution.RAISE, r"priority is .*give a JobPriority"),
    ("conflict_resolution", "ignore", r"conflict_resolution is 'ignore'\. give ConflictResolution"),
    ("max_retries", -1, r"max_retries is '-1'"),
    ("max_retries", 1.5, r"max_retries is '1\.5'"),
    ("queue", "", r"queue is ''\. give text of 1 to 200 bytes"),
    ("queue", None, r"queue is 'None'"),
    ("concurrency_key", "", r"concurrency_key is ''\. give text"),
    ("concurrency_limit", 1, r"concurrency_limit or on_full is given without a key\. give concurrency_key"),
    ("timeout", 0, r"timeout is '0'\. give seconds or a timedelta above 0"),
    ("timeout", math.nan, r"timeout is 'nan'"),
    ("timeout", timedelta(), r"timeout is '0:00:00'"),
    ("timeout", "5", r"timeout is '5'"),
    ("timeout", True, r"timeout is 'True'"),
    ("retry_policy", {"initial": 1}, r"retry_policy is a dict\. give RetryPolicy"),
    ("tags", "urgent", r"tags is 'urgent'\. give a list"),
    ("tags", ["a"] * 21, r"tags is .*at most 20"),
    ("tags", ["a" * 65], r"tags is 'aaa.*1 to 64 bytes"),
    ("tags", [1], r"tags is '1'"),
    ("metadata", [1], r"metadata is a list\. give a dict"),
    ("metadata", {"a": b""}, r"metadata\['a'\] is a bytes\. encode"),
    ("metadata", {"a": "x" * 16384}, r"metadata is 16\d\d\d bytes as JSON\. at most 16384"),
    ("expires", datetime(2030, 1, 1), r"expires 2030.* has no time zone"),  # noqa: DTZ001  the point
    ("expires", timedelta(), r"expires is 0:00:00\. give a timedelta above 0"),
    ("expires", timedelta.max, r"expires .* is too late\. give a shorter"),
    ("expires", 60, r"expires is a int.*aware datetime"),
    ("keep_result", 1, r"keep_result is '1'\. give True or False"),
    ("flush", "later", r"flush is 'later'\. give 'batch' or 'now'"),
    ("on_interrupt", "stop", r"on_interrupt is 'stop'\. give 'retry' or 'fail'"),
    ("max_interruptions", -1, r"max_interruptions is '-1'"),
    ("unique", "task", r"unique is a str\. give Unique"),
]
VALUES: list[tuple[Callable[[], Any], str]] = [
    (lambda: Unique(by=()), r"unique: by is '\(\)'\. give one or more of"),
    (lambda: Unique(by=("name",)), r"unique: by is .*give one or more of"),
    (lambda: Unique(by="task"), r"unique: by is 'task'.*in a tuple"),
    (lambda: Unique(within=timedelta()), r"unique: within is '0:00:00'\. give a timedelta"),
    (lambda: Unique(within=60), r"unique: within is '60'\. give a timedelta"),  # type: ignore[arg-type]
    (lambda: RetryPolicy(initial=-1), r"retry_policy: initial is '-1'\. give a number from 0"),
    (lambda: JobFilter(status="done"), r"filter: status is 'done'\. give of pending"),
    (lambda: JobFilter(tags="a"), r"filter: tags is 'a'\. give a list"),
    (lambda: JobFilter(limit=-1), r"filter: limit is '-1'\. give a whole number"),
    (lambda: JobFilter(due_from=datetime(2030, 1, 1)), r"filter: due_from is .*aware datetime"),  # noqa: DTZ001  the point
    (lambda: JobFilter(task=""), r"filter: task is ''\. give text"),
]
SETTINGS: list[tuple[str, Any, str]] = [
    ("max_concurrent_jobs", 0, r"max_concurrent_jobs is .*0.* give a whole number from 1 to 100000"),
    ("max_concurrent_jobs", -1, r"max_concurrent_jobs is .*-1"),
    ("max_concurrent_jobs", 10**9, r"max_concurrent_jobs is .*1000000000"),
    ("batch_claim_limit", 0, r"batch_claim_limit is .*0"),
    ("misfire_grace_time", -1, r"misfire_grace_time is .*-1"),
    ("tenant", "a\x00", r"tenant is"),
    ("queues", (), r"queues is not a list of 1 to 100 names"),
    ("lease_seconds", math.nan, r"lease_seconds is .*nan"),
]
BULK = ["max_retries", "timeout", "unique", "execution_time", "priority", "tags"]


async def nothing_was_written(pool: asyncpg.Pool[asyncpg.Record]) -> None:
    assert await pool.fetchval("SELECT count(*) FROM scheduled_jobs") == 0
    assert await pool.fetchval("SELECT count(*) FROM scheduler_keys") == 0


@pytest.mark.parametrize(("function", "words"), FUNCTIONS)
async def test_function_that_cannot_run_is_refused(
    pool: asyncpg.Pool[asyncpg.Record], function: Any, words: str
) -> None:
    with pytest.raises(TypeError, match=f"Only async functions can be scheduled; .*{words}"):
        await Scheduler(pool).schedule(function, execution_time=LATER)

    await nothing_was_written(pool)


@pytest.mark.parametrize(("args", "words"), ARGUMENTS)
async def test_arguments_that_json_cannot_keep_are_refused(
    pool: asyncpg.Pool[asyncpg.Record], args: Any, words: str
) -> None:
    with pytest.raises(InvalidArgument, match=words):
        await Scheduler(pool).schedule(note, execution_time=LATER, args=args)

    await nothing_was_written(pool)


@pytest.mark.parametrize(("field", "value", "words"), OPTIONS)
async def test_option_that_cannot_be_used_is_refused(
    pool: asyncpg.Pool[asyncpg.Record], field: str, value: Any, words: str
) -> None:
    given = {"execution_time": LATER, field: value}
    with pytest.raises(InvalidArgument, match=words):
        await Scheduler(pool).schedule(note, **given)

    await nothing_was_written(pool)


@pytest.mark.parametrize(("field", "value", "words"), [row for row in OPTIONS if row[0] in BULK])
async def test_option_of_a_spec_is_refused_with_its_index(
    pool: asyncpg.Pool[asyncpg.Record], field: str, value: Any, words: str
) -> None:
    bad = JobSpec(**{"func": note, "execution_time": LATER, field: value})
    with pytest.raises(InvalidArgument, match=rf"jobs\[1\]: .*{words}"):
        await Scheduler(pool).schedule_bulk([JobSpec(note, LATER), bad])

    await nothing_was_written(pool)


@pytest.mark.parametrize(("make", "words"), VALUES)
def test_value_that_cannot_be_used_is_refused_when_it_is_made(make: Callable[[], Any], words: str) -> None:
    with pytest.raises(InvalidArgument, match=words):
        make()


@pytest.mark.parametrize(("field", "value", "words"), SETTINGS)
async def test_setting_that_cannot_be_used_is_refused(
    pool: asyncpg.Pool[asyncpg.Record], field: str, value: Any, words: str
) -> None:
    with pytest.raises(InvalidArgument, match=words):
        Scheduler(pool, **{field: value})


@pytest.mark.parametrize("conflict", [ConflictResolution.REPLACE, ConflictResolution.RAISE])
async def test_unique_beside_another_identity_is_refused(
    pool: asyncpg.Pool[asyncpg.Record], conflict: ConflictResolution
) -> None:
    job_id = None if conflict is ConflictResolution.REPLACE else "j"
    with pytest.raises(InvalidArgument, match=r"unique is given together.*give only one"):
        await Scheduler(pool).schedule(
            note, execution_time=LATER, job_id=job_id, conflict_resolution=conflict, unique=Unique()
        )

    await nothing_was_written(pool)


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("", {}, r"job_name is ''\. give a task"),
        (None, {}, r"job_name is 'None'\. give a task"),
        ("x" * 501, {}, r"job_name is 'x{40}'\. give a task's key or name, of 1 to 500 bytes"),
        ("a\ud800", {}, r"job_name is 'a.ud800'\. give a task"),
        ("t", [], r"task_data is not a dict"),
        ("t", {"arguments": []}, r"task_data is not a dict of args and kwargs\. give"),
        ("t", {"args": {}}, r"args is a dict\. give a list"),
    ],
)
async def test_job_by_name_that_says_nothing_is_refused(
    pool: asyncpg.Pool[asyncpg.Record], name: Any, data: Any, words: str
) -> None:
    with pytest.raises(InvalidArgument, match=words):
        await Scheduler(pool).schedule_job(name, LATER, data)

    await nothing_was_written(pool)


async def test_bulk_of_something_else_is_refused(pool: asyncpg.Pool[asyncpg.Record]) -> None:
    with pytest.raises(InvalidArgument, match=r"jobs\[0\]: it is a dict\. give JobSpec"):
        await Scheduler(pool).schedule_bulk([{"func": note}])  # type: ignore[list-item]  # the point


async def test_pool_that_is_closed_is_refused(dsn: str) -> None:
    pool = await asyncpg.create_pool(dsn, min_size=0)
    scheduler = Scheduler(pool)
    await pool.close()

    with pytest.raises(InvalidArgument, match=r"db_pool is closed\. pass an open pool"):
        await scheduler.schedule(note, execution_time=LATER)
    with pytest.raises(InvalidArgument, match=r"db_pool is closed\. pass an open pool"):
        Scheduler(pool)
    with pytest.raises(InvalidArgument, match=r"db_pool is a NoneType\. pass the pool of asyncpg\.create_pool"):
        Scheduler(None)  # type: ignore[arg-type]  # the point


async def test_pool_of_another_loop_is_refused(pool: asyncpg.Pool[asyncpg.Record]) -> None:
    scheduler = Scheduler(pool)

    def elsewhere() -> None:
        asyncio.run(scheduler.schedule(note, execution_time=LATER))

    with pytest.raises(InvalidArgument, match=r"db_pool belongs to another event loop\. make the pool"):
        await asyncio.to_thread(elsewhere)
    await nothing_was_written(pool)


async def test_schedule_without_tables_names_the_command(new_database: Callable[..., str]) -> None:
    async with asyncpg.create_pool(new_database(template=EMPTY), min_size=1) as pool:
        for submission in (
            Scheduler(pool).schedule(note, execution_time=LATER),
            Scheduler(pool).schedule_bulk([JobSpec(note, LATER)] * 200),
            Scheduler(pool).queues(),
        ):
            with pytest.raises(SchemaMismatch, match="run `pgscheduler migrate`"):
                await submission


async def test_function_of_the_script_is_warned_of_where_nobody_runs_it(
    pool: asyncpg.Pool[asyncpg.Record], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(note, "__module__", "__main__")
    scheduler = Scheduler(pool)
    await scheduler.schedule(note, execution_time=LATER)
    await scheduler.schedule(note, execution_time=LATER)

    assert len([text for text in caplog.messages if "__main__:note is known to this script only" in text]) == 1


@pytest.mark.parametrize(
    "job",
    [
        {"job_id": "x" * 200},
        {"job_id": "ä" * 100},
        {"misfire_grace_time": 10**9},
        {"misfire_grace_time": None},
        {"execution_time": datetime(2030, 10, 27, 2, 30, tzinfo=UTC, fold=1)},
        {"args": (10**999,)},
        {"args": (nested(62),)},
        {"args": ("x" * (1024 * 1024 - 30),)},
        {"kwargs": {"name": "ä\n\u2028😀"}},
        {"tags": ("a" * 64,) * 20},
        {"timeout": 0.001},
        {"max_interruptions": 0},
    ],
)
async def test_what_lies_just_inside_is_taken(pool: asyncpg.Pool[asyncpg.Record], job: dict[str, Any]) -> None:
    assert await Scheduler(pool).schedule(note, **{"execution_time": LATER, **job})


async def test_reserved_words_are_arguments_like_others(pool: asyncpg.Pool[asyncpg.Record]) -> None:
    async def takes(**anything: Any) -> None: ...

    assert await Scheduler(pool).schedule(takes, execution_time=LATER, kwargs={"self": 1, "connection": 2, "func": 3})


def test_calls_are_judged_as_python_would() -> None:
    """The short way for positional arguments agrees with binding them, whatever the parameters are."""

    async def none() -> None: ...
    async def one_of_two(a: int, b: int = 0) -> None: ...
    async def only_by_place(a: int, /, b: int = 0) -> None: ...
    async def any_number(a: int, *rest: int) -> None: ...
    async def by_name(a: int, *, b: int) -> None: ...
    async def by_name_or_not(a: int, *, b: int = 0, **more: int) -> None: ...

    for function in (none, one_of_two, only_by_place, any_number, by_name, by_name_or_not):
        for args in ((), (1,), (1, 2), (1, 2, 3)):
            for kwargs in ({}, {"b": 1}, {"c": 1}):
                assert _is_taken(function, args, kwargs) == _binds(function, args, kwargs), (function, args, kwargs)


def _is_taken(function: Any, args: tuple[int, ...], kwargs: dict[str, int]) -> bool:
    try:
        checks.require_call(function, args, kwargs)
    except InvalidArgument:
        return False
    return True


def _binds(function: Any, args: tuple[int, ...], kwargs: dict[str, int]) -> bool:
    try:
        function(*args, **kwargs).close()
    except TypeError:
        return False
    return True


def test_payload_errors_are_type_errors_and_value_errors() -> None:
    assert issubclass(InvalidPayload, TypeError)
    assert issubclass(InvalidPayload, ValueError)
