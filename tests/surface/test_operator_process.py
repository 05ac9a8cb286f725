"""``pgscheduler operator`` as a process between a real database and an API server's manners: how it ends."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from support.kube_server import LEASE_PATH, ApiServer
from support.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from support.commands import Running, StartCommand

EXIT_SHARE: Final = 0.2
"""What the end may cost of what the start has cost: no figure of seconds is true on every machine."""


@pytest.fixture
async def api() -> AsyncIterator[ApiServer]:
    async with ApiServer().serving() as server:
        yield server


@pytest.fixture
def settings(api: ApiServer, tmp_path: Path) -> Mapping[str, str]:
    return {
        "KUBECONFIG": str(api.kubeconfig(tmp_path)),
        "KUBERNETES_SERVICE_HOST": "",
        "PGSCHEDULER_LEASE_NAMESPACE": "ops",
    }


async def ended(operator: Running) -> int:
    """Its exit code, while this loop goes on to answer it."""
    return await asyncio.to_thread(operator.wait)


def cpu_seconds(pid: int) -> float:
    """What a process has used, also one that has ended and was not waited for."""
    ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(ticks[11]) + int(ticks[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux to know what a process has used")
async def test_operator_that_is_told_to_end_ends_at_once_and_gives_the_lease_back(
    api: ApiServer, dsn: str, settings: Mapping[str, str], start_pgscheduler: StartCommand
) -> None:
    operator = start_pgscheduler("operator", "--http", "127.0.0.1:0", env={**settings, "PGSCHEDULER_DSN": dsn})
    await operator.says("serving")
    pid, started = operator.process.pid, cpu_seconds(operator.process.pid)

    operator.process.send_signal(signal.SIGTERM)
    await asyncio.to_thread(os.waitid, os.P_PID, pid, os.WEXITED | os.WNOWAIT)

    assert cpu_seconds(pid) - started < EXIT_SHARE * started
    assert await ended(operator) == 0
    assert api.objects[LEASE_PATH]["spec"]["holderIdentity"] == ""


async def test_operator_ends_although_the_database_says_nothing_any_more(
    dsn: str, settings: Mapping[str, str], start_pgscheduler: StartCommand
) -> None:
    async with Proxy.to(dsn) as proxy:
        operator = start_pgscheduler("operator", env={**settings, "PGSCHEDULER_DSN": proxy.dsn})
        await operator.says("serving")
        proxy.black_hole()

        operator.process.send_signal(signal.SIGTERM)

        assert await ended(operator) == 0
