"""What waits for an instant of a clock that stands until it is moved."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from pg_scheduler._engine.agenda import Agenda, agenda_of_job

AT = datetime(2026, 1, 1, tzinfo=UTC)


def after(seconds: float) -> datetime:
    return AT + timedelta(seconds=seconds)


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def job(agenda: Agenda, token: int, *seconds: float) -> None:
    """Sleeps so long, once after the other, as the job of this token."""
    with agenda.job(token):
        for each in seconds:
            await agenda.sleep(timedelta(seconds=each))


async def test_waits_are_called_in_the_order_of_their_instants_and_then_of_their_beginnings() -> None:
    agenda, called = Agenda(AT), list[str]()

    async def sleeps(name: str, seconds: float) -> None:
        await agenda.sleep(timedelta(seconds=seconds))
        called.append(name)

    names = [("late", 3.0), ("first of two", 2.0), ("second of two", 2.0), ("early", 1.0)]
    tasks = [asyncio.create_task(sleeps(*each)) for each in names]
    await turns()

    assert agenda.next_at == after(1)
    assert agenda.call_due(after(2.5)) == 3
    await turns()

    assert called == ["early", "first of two", "second of two"]
    assert (agenda.now, agenda.next_at) == (after(2.5), after(3))
    assert agenda.call_due(after(3)) == 1
    await asyncio.gather(*tasks)


async def test_a_job_is_awake_from_the_moment_it_is_called() -> None:
    agenda = Agenda(AT)
    task = asyncio.create_task(job(agenda, 7, 1, 1))
    await turns()
    assert agenda.is_asleep(7)

    agenda.call_due(after(1))
    assert not agenda.is_asleep(7)
    await turns()

    assert agenda.is_asleep(7)
    assert agenda.stirred.is_set()
    agenda.call_due(after(2))
    await task
    assert not agenda.is_asleep(7)


async def test_a_job_that_is_roused_is_awake_and_the_others_are_not() -> None:
    agenda = Agenda(AT)
    tasks = [asyncio.create_task(job(agenda, token, 1)) for token in (7, 8)]
    await turns()

    agenda.rouse(7)
    assert (agenda.is_asleep(7), agenda.is_asleep(8)) == (False, True)
    tasks[0].cancel()
    await turns()

    assert tasks[0].cancelled()
    assert not agenda.is_asleep(7)
    assert agenda.call_due(after(1)) == 1  # what was given up is no longer called
    await tasks[1]


async def test_a_job_that_sleeps_in_two_tasks_is_asleep_while_one_does() -> None:
    agenda = Agenda(AT)

    async def gathers() -> None:
        with agenda.job(7):
            await asyncio.gather(agenda.sleep(timedelta(seconds=1)), agenda.sleep(timedelta(seconds=2)))

    task = asyncio.create_task(gathers())
    await turns()

    agenda.call_due(after(1))
    assert agenda.is_asleep(7)
    agenda.call_due(after(2))
    assert not agenda.is_asleep(7)
    await task


async def test_a_time_limit_strikes_at_its_instant_and_wakes_its_job() -> None:
    agenda, struck = Agenda(AT), list[bool]()

    async def limited() -> None:
        with agenda.job(7):
            async with agenda.time_limit(2) as limit:
                try:
                    await agenda.sleep(timedelta(seconds=60))
                finally:
                    struck.append(limit.expired())

    task = asyncio.create_task(limited())
    await turns()

    agenda.call_due(after(1))
    await turns()
    assert not struck
    agenda.call_due(after(2))
    assert not agenda.is_asleep(7)
    with pytest.raises(TimeoutError):
        await task
    assert agenda.next_at is None


@pytest.mark.parametrize("seconds", [None, 5.0])
async def test_a_time_limit_that_is_kept_leaves_nothing_behind(seconds: float | None) -> None:
    agenda = Agenda(AT)

    async with agenda.time_limit(seconds):
        await asyncio.sleep(0)

    assert agenda.next_at is None
    assert agenda.call_due(after(60)) == 0


async def test_tasks_of_a_job_are_part_of_it_and_nothing_else_is() -> None:
    agenda, seen = Agenda(AT), list[Agenda | None]()

    async def looks() -> None:
        seen.append(agenda_of_job())

    with agenda.job(7):
        await asyncio.create_task(looks())
    await looks()

    assert seen == [agenda, None]
