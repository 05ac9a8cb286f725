from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from pg_scheduler_operator.errors import KubernetesUnreachable
from pg_scheduler_operator.pacing import Pacer, Rank
from pg_scheduler_operator.reconciler import crowds
from pg_scheduler_operator.reconciler.crowds import Crowds
from pg_scheduler_operator.reconciler.queue import KeyQueue
from pg_scheduler_operator.resources import Key, Kind
from support.operator_world import FakeCluster, periodic_job, scheduled_job

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class World:
    """A queue before a fake API server, and whoever works: the names, and how often."""

    def __init__(self) -> None:
        self.cluster = FakeCluster()
        self.queue = KeyQueue()
        self.worked_on: dict[str, int] = {}
        self.at_once = self.most_at_once = 0
        self.pacer: Pacer[Key] = Pacer(lambda: 0.0)
        self.during: Callable[[Key], None] = lambda _: None
        self.crowds = Crowds(self.queue, self.cluster, self.pacer, self.work_on)

    def put(self, *names: str, kind: Kind = Kind.PERIODIC_JOB) -> None:
        for name in names:
            self.cluster.apply(kind, name, periodic_job() if kind is Kind.PERIODIC_JOB else scheduled_job())
            self.queue.put(Key(kind=kind, namespace="billing", name=name))

    async def work_on(self, key: Key, body: Mapping[str, Any] | None) -> None:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(0)
        assert body is None or body["metadata"]["name"] == key.name
        self.worked_on[key.name] = self.worked_on.get(key.name, 0) + 1
        self.during(key)
        self.at_once -= 1
        self.queue.done(key)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    """Three keys are a crowd here."""
    monkeypatch.setattr(crowds, "CROWD", 2)
    monkeypatch.setattr(crowds, "FEW", 2)
    monkeypatch.setattr(crowds, "AT_ONCE", 2)
    return World()


async def test_few_are_left_to_the_workers(world: World) -> None:
    world.put("a", "b")

    assert await world.crowds.run_once() == 0
    assert len(world.queue._waiting) == 2


async def test_many_are_worked_off_with_the_bodies_of_the_pages_a_few_at_once(world: World) -> None:
    world.put("a", "b", "c", "d", "e")
    world.put("s", kind=Kind.SCHEDULED_JOB)

    assert await world.crowds.run_once() == 6

    assert world.worked_on == dict.fromkeys("abcdes", 1)
    assert world.most_at_once == 2
    assert world.queue._waiting == set()


@pytest.mark.parametrize("came", ["de", "def"])
async def test_what_has_come_meanwhile_is_worked_off_too(
    world: World, monkeypatch: pytest.MonkeyPatch, came: str
) -> None:
    monkeypatch.setattr(crowds, "FEW", 0)
    world.put("a", "b", "c")

    def more(key: Key) -> None:
        if key.name == "a":
            world.put(*came)

    world.during = more

    assert await world.crowds.run_once() == 3 + len(came)
    assert world.worked_on == dict.fromkeys("abc" + came, 1)


async def test_round_ends_with_few(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """However steadily they come, statuses are told."""
    monkeypatch.setattr(crowds, "FEW", 1)
    world.put("a", "b", "c")
    world.during = lambda key: world.put(f"{key.name}x") if key.name in {"a", "ax", "axx"} else None

    assert await world.crowds.run_once() == 3
    assert {key.name for key in world.queue._waiting} == {"ax"}


@pytest.mark.parametrize(("rank", "wait"), [(Rank.FINISHED, 0), (Rank.READY, None), (Rank.REST, None)])
async def test_statuses_wait_for_the_crowd_but_for_those_of_ends(world: World, rank: Rank, wait: float | None) -> None:
    world.put("a", "b", "c")
    waits: list[float | None] = []
    world.during = lambda key: waits.append(world.pacer.wait_seconds(key, urgent=True, rank=rank))

    await world.crowds.run_once()

    assert waits == [wait] * 3
    assert (world.pacer.call() is None) == (wait == 0)


async def test_object_that_nobody_asked_for_is_left_alone(world: World) -> None:
    world.put("a", "b", "c")
    world.cluster.apply(Kind.PERIODIC_JOB, "z", periodic_job())

    await world.crowds.run_once()

    assert set(world.worked_on) == {"a", "b", "c"}


async def test_object_that_is_on_no_page_goes_back_to_the_queue(world: World) -> None:
    world.put("a", "b", "c")
    del world.cluster.objects[Key(kind=Kind.PERIODIC_JOB, namespace="billing", name="b")]

    await world.crowds.run_once()

    assert set(world.worked_on) == {"a", "c"}
    assert (await world.queue.get()).name == "b"


async def test_without_pages_all_go_back_to_the_queue_and_the_round_ends(world: World) -> None:
    world.put("a", "b", "c")
    world.put("s", kind=Kind.SCHEDULED_JOB)

    def fault(call: str) -> None:
        if call == "pages":
            raise KubernetesUnreachable("away")

    world.cluster.fault = fault

    with pytest.raises(KubernetesUnreachable):
        await world.crowds.run_once()

    assert world.worked_on == {}
    assert {(await world.queue.get()).name for _ in "abcs"} == {"a", "b", "c", "s"}


async def test_round_that_crawls_ends_with_its_page(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crowds, "ROUND_SECONDS", -1.0)
    world.put("a", "b", "c", "d", "e")

    await world.crowds.run_once()

    assert len(world.worked_on) == 3
    assert {(await world.queue.get()).name for _ in "12"} == set("abcde") - world.worked_on.keys()


async def test_change_while_the_pages_are_read_comes_again(world: World) -> None:
    world.put("a", "b", "c")
    waits_at_once: list[bool] = []

    def change(_: str) -> None:
        world.queue.put(Key(kind=Kind.PERIODIC_JOB, namespace="billing", name="b"))
        waits_at_once.append(bool(world.queue._waiting))

    world.cluster.fault = change

    await world.crowds.run_once()

    assert waits_at_once == [False]  # nobody else works on it meanwhile
    assert {key.name for key in world.queue._waiting} == {"b"}


async def test_worker_that_waits_gets_none_of_what_was_taken(world: World) -> None:
    world.put("a", "b", "c")
    await world.crowds.run_once()
    world.put("d")

    assert (await world.queue.get()).name == "d"
