"""What a pool may say of queues and tasks, and when it is written."""

from __future__ import annotations

from typing import Any

import pytest

from pg_scheduler.pool_settings import PoolSettings, PoolState, QueueSettings, RateLimit
from pg_scheduler_operator.errors import InvalidSpec
from pg_scheduler_operator.reconcile.actions import SetPool
from pg_scheduler_operator.reconcile.pool_settings import ALWAYS_THERE, queue_conflict, store_settings
from pg_scheduler_operator.resources import Kind, Resource, WorkerPoolSpec, read
from support.operator_world import body, worker_pool

MAIL = {"name": "mail", "concurrency": 4, "rateLimit": {"limit": 10, "perSeconds": 60}}
SAID = QueueSettings(concurrency=4, rate=RateLimit(limit=10, seconds=60))


def pool(**spec: Any) -> Resource[WorkerPoolSpec]:
    return read(WorkerPoolSpec, body(Kind.WORKER_POOL, {**worker_pool(), **spec}), cluster="default")


def stands(settings: PoolSettings | None = None, **conflicts: str) -> PoolState:
    return PoolState(settings=settings, conflicts=conflicts)


def test_a_pool_says_what_its_spec_says() -> None:
    spec = pool(queues=[MAIL, {"name": "bulk", "weight": 3, "paused": True}], allowedTasks=["a.*", "b?"]).spec

    assert not isinstance(spec, InvalidSpec)
    assert spec.settings == PoolSettings(
        queues={"mail": SAID, "bulk": QueueSettings(weight=3, paused=True)}, allowed_tasks=("a.*", "b?")
    )


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ({"queues": [MAIL, MAIL]}, "the queue mail stands twice"),
        ({"queues": [{"name": "mail", "weight": 0}]}, "spec.queues[0].weight 0"),
        ({"queues": [{"name": "mail", "rateLimit": {"limit": 1}}]}, "spec.queues[0].rateLimit.perSeconds is missing"),
        ({"queues": [{"name": "a b"}]}, 'spec.queues[0].name "a b"'),
        ({"allowedTasks": [""]}, 'spec.allowedTasks[0] ""'),
        ({"allowedTasks": ["a,b"]}, 'spec.allowedTasks[0] "a,b"'),
    ],
)
def test_what_cannot_be_is_told_with_its_place(spec: dict[str, Any], told: str) -> None:
    refused = pool(**spec).spec

    assert isinstance(refused, InvalidSpec)
    assert told in str(refused)


@pytest.mark.parametrize(
    ("state", "is_written"),
    [
        (stands(), True),
        (stands(PoolSettings(queues={"mail": SAID})), False),
        (stands(PoolSettings(queues={"mail": QueueSettings()})), True),
        (stands(PoolSettings(queues={"mail": SAID}, allowed_tasks=())), True),
        (stands(PoolSettings(), mail="older"), False),
        (stands(PoolSettings(queues={"mail": SAID}), mail="older"), True),
        (None, False),
    ],
)
def test_a_write_comes_only_where_something_else_stands(state: PoolState | None, is_written: bool) -> None:
    made = pool(queues=[MAIL])

    expected = [SetPool(source=made.meta.source, made_at=ALWAYS_THERE, settings=PoolSettings(queues={"mail": SAID}))]

    assert store_settings(made, state) == (expected if is_written else [])


def test_a_bad_spec_leaves_the_last_good_settings() -> None:
    assert store_settings(pool(queues=[{"name": ""}]), stands()) == []


def test_a_conflict_names_queue_and_pool() -> None:
    refusal = queue_conflict(stands(PoolSettings(), mail="reports"))

    assert refusal is not None
    assert "queue mail by WorkerPool reports" in refusal.message
    assert queue_conflict(stands()) is queue_conflict(None) is None
