from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

import pytest

from pg_scheduler_operator import app
from pg_scheduler_operator.reconciler import until_one_ends

if TYPE_CHECKING:
    from collections.abc import Collection

    from pg_scheduler_operator.gateway.kube import KubeResources


async def forever() -> None:
    await asyncio.Event().wait()


async def fail() -> None:
    raise RuntimeError("watch")


async def test_operator_ends_all_its_tasks_when_one_of_them_ends() -> None:
    done, working, preparing = (asyncio.create_task(it) for it in (asyncio.sleep(0), forever(), forever()))

    await until_one_ends({done, working}, and_end={preparing})

    assert all(task.done() for task in (done, working, preparing))


async def test_operator_fails_when_one_of_its_tasks_fails() -> None:
    failing, working = asyncio.create_task(fail()), asyncio.create_task(forever())

    with pytest.raises(RuntimeError, match="watch"):
        await until_one_ends({failing, working}, and_end=set())

    assert working.cancelled()


async def test_what_is_only_awaited_does_not_end_the_operator() -> None:
    working, preparing = asyncio.create_task(forever()), asyncio.create_task(asyncio.sleep(0))
    ending = asyncio.create_task(until_one_ends({working}, and_end={preparing}))

    await preparing
    await asyncio.sleep(0)

    assert not ending.done()
    ending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await ending
    assert working.cancelled()


class Crds:
    """CRDs that appear one look after the other."""

    def __init__(self, *missing: Collection[str]) -> None:
        self.missing = list(missing)

    async def missing_kinds(self) -> Collection[str]:
        return self.missing.pop(0)


async def test_operator_waits_for_the_crds_and_says_so_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(app, "LOOK_SECONDS", 0)
    crds = Crds(["PeriodicJob", "WorkerPool"], ["WorkerPool"], [])

    await app._wait_for_kinds(cast("KubeResources", crds))

    assert caplog.text.count("waiting for the CRDs of PeriodicJob, WorkerPool: pgscheduler crds | kubectl apply") == 1
