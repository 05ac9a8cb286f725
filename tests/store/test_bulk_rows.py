"""What COPY's rows and the arrays of a batch store is what the values say, whatever is left out of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import asyncpg
import pytest

from pg_scheduler._domain.drafts import Drafts
from pg_scheduler._domain.jobs import NULLABLE_COLUMNS, OWN_COLUMNS, NewJob
from pg_scheduler._store.bulk import COPY_FROM, BulkStore
from pg_scheduler._store.database import Database
from support.world import new_job

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from support.world import World

LATER = datetime(9998, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)
RICH: dict[str, object] = {
    "tenant": "ténant",
    "queue": "q",
    "task": "naïve:t",
    "job_name": "ħ",
    "task_data": '{"args":["\\u0001"],"kwargs":{}}',
    "execution_time": LATER - timedelta(days=1),
    "priority": 8,
    "max_retries": 2**31 - 1,
    "misfire_grace_time": 0,
    "concurrency_key": "k",
    "timeout_seconds": 0.1,
    "retry_policy": '{"initial": 5}',
    "on_interrupt": "fail",
    "max_interruptions": 0,
    "expires_at": LATER,
    "keep_result": True,
    "flush_now": True,
    "tags": '["a"]',
    "metadata": '{"b": 1}',
    "on_full": "skip",
    "concurrency_limit": 7,
}
SHAPES: dict[str, list[dict[str, object]]] = {
    "plain": [{}],
    "all of everything": [RICH],
    "mixed": [{}, RICH],
    "one by one": [{}, *({name: value} for name, value in RICH.items() if name != "concurrency_limit")],
}


def ids() -> Iterator[str]:
    number = 0
    while True:
        number += 1
        yield f"new-{number}"


def drafts_of(changes: Sequence[dict[str, object]], count: int) -> Drafts:
    drafts = Drafts(ids())
    for number in range(count):
        change = {"execution_time": LATER, **changes[number % len(changes)]}
        if change.keys() & {"on_full", "concurrency_limit"}:
            change.setdefault("concurrency_key", "k")
        drafts.add_job(new_job(job_id=f"j{number}", **change))
    return drafts


async def stored(world: World, job: NewJob) -> NewJob:
    row = await world.row(job.job_id)
    return NewJob(*(row[name] for name in NewJob._fields))


@pytest.mark.parametrize("count", [3, COPY_FROM + 300], ids=["arrays", "COPY"])
@pytest.mark.parametrize("shape", SHAPES)
async def test_a_batch_stores_what_its_jobs_say(
    world: World, pool: asyncpg.Pool[asyncpg.Record], shape: str, count: int
) -> None:
    drafts = drafts_of(SHAPES[shape], max(count, len(SHAPES[shape])))
    async with BulkStore(Database(pool, place="here"), pool).writers(few=count < COPY_FROM) as [writer]:
        for replaces in (False, True):
            await writer.write(drafts, replaces=replaces)

            for job in drafts:
                assert await stored(world, job) == job


async def test_what_is_left_out_is_what_the_table_stores(world: World, pool: asyncpg.Pool[asyncpg.Record]) -> None:
    drafts = drafts_of([{}], 1)
    async with BulkStore(Database(pool, place="here"), pool).writers(few=False) as [writer]:
        await writer.insert_fresh(drafts)

    [job] = drafts
    assert await stored(world, job) == job
    assert drafts.columns == OWN_COLUMNS


async def test_columns_without_null_are_those_of_the_table(pool: asyncpg.Pool[asyncpg.Record]) -> None:
    rows = await pool.fetch(
        "SELECT attname FROM pg_attribute WHERE attrelid = 'scheduled_jobs'::regclass AND attnum > 0 AND NOT attnotnull"
    )

    assert {row["attname"] for row in rows} & set(NewJob._fields) == NULLABLE_COLUMNS


async def test_a_draft_gets_its_id_once() -> None:
    drafts = Drafts(ids())
    common = drafts_of([{}], 1)._commons[0]
    for given in ("a", None, None):
        drafts.add(common, given, "{}", LATER)
    rows = iter(drafts)
    assert [next(rows).job_id, next(rows).job_id] == ["a", "new-1"]

    assert drafts.ids == ["a", "new-1", "new-2"]
    assert [job.job_id for job in drafts] == drafts.ids


async def test_text_is_stored_right_over_a_connection_of_another_encoding(dsn: str, world: World) -> None:
    drafts = drafts_of([{"queue": "é"}], 2)
    async with (
        asyncpg.create_pool(dsn, min_size=1, max_size=1, server_settings={"client_encoding": "LATIN1"}) as pool,
        BulkStore(Database(pool, place="here"), pool).writers(few=False) as [writer],
    ):
        await writer.insert_fresh(drafts)

    assert {(await world.row(job_id))["queue"] for job_id in drafts.ids} == {"é"}
