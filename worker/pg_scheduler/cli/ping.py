"""The task that every worker knows, so that a first job needs no code."""

from __future__ import annotations

import logging
from importlib.metadata import version
from typing import TYPE_CHECKING

from pg_scheduler.tasks import task

if TYPE_CHECKING:
    from collections.abc import Callable

TASK_KEY = "pgscheduler.ping"

logger = logging.getLogger(__name__)


def add_ping(worker_id: Callable[[], str | None]) -> None:
    """Name the task ``pgscheduler.ping``, which answers which worker ran it, and of which release that is."""

    @task(name=TASK_KEY)
    async def ping() -> dict[str, str | None]:
        answer = {"worker": worker_id(), "release": version("pgscheduler")}
        logger.info("ping: worker %(worker)s, release %(release)s", answer)
        return answer
