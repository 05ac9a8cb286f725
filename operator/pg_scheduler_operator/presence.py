"""Whose rows those of a cluster's name are.

Invariant: no row is written before the name was claimed, and the process ends when somebody else has it: two clusters
under one name would sweep each other's rows away.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final, NoReturn

from pg_scheduler.errors import DatabaseNotReady, DatabaseUnreachable
from pg_scheduler_operator.errors import NameTaken
from pg_scheduler_operator.metrics import LOOP_AGE
from pg_scheduler_operator.reconciler import Loop, retry

if TYPE_CHECKING:
    from pg_scheduler.operations import Operations
    from pg_scheduler_operator.gateway.kube import KubeResources
    from pg_scheduler_operator.metrics import Metrics
    from pg_scheduler_operator.settings import Settings

SAY_SECONDS: Final = 10.0
"""How often we say that we are there; another may have the name after a minute of silence."""

logger = logging.getLogger(__name__)


class Presence:
    """Claims the name and keeps it; after a restore it takes over the rows of the objects' names."""

    def __init__(self, operations: Operations, resources: KubeResources, settings: Settings, metrics: Metrics) -> None:
        self._operations = operations
        self._resources = resources
        self._cluster = settings.cluster_name
        self._is_named = "cluster_name" in settings.model_fields_set
        self._adopts = settings.adopt_by_name
        self._metrics = metrics
        self._identity = ""

    async def begin(self) -> None:
        """Claim the name; wait for whoever does not answer.

        Raises:
            NameTaken: another cluster has it, or none was given and another's rows are here.
        """
        self._identity = await retry("the cluster's identity", self._resources.identity)
        others = await retry("the cluster's name", lambda: self._operations.other_clusters(self._cluster))
        if others and not self._is_named:
            raise NameTaken(
                f"the database holds rows of {', '.join(others)}",
                why="which cluster this one is has to be said when there are several",
                fix="set $PGSCHEDULER_CLUSTER_NAME, another for each cluster",
            )
        while not await self._claimed():  # noqa: ASYNC110 (it is the database that is waited for)
            await asyncio.sleep(SAY_SECONDS)
        if self._adopts:
            await retry("the adoption", self._adopt)

    async def run(self) -> NoReturn:
        """Say that we are there, for ever.

        Raises:
            NameTaken: another cluster has the name.
        """
        while True:
            self._metrics.mark(LOOP_AGE, Loop.PRESENCE)
            await asyncio.sleep(SAY_SECONDS)
            await self._claimed()

    async def _claimed(self) -> bool:
        """Whether the database knows; False while it does not answer, which others tell."""
        try:
            is_ours = await self._operations.claim_cluster(self._cluster, self._identity)
        except (DatabaseUnreachable, DatabaseNotReady):
            return False
        if not is_ours:
            raise NameTaken(
                f"the operator of another cluster serves the rows of {self._cluster}",
                why="two clusters under one name would delete each other's rows",
                fix="give one of them another $PGSCHEDULER_CLUSTER_NAME, or end the other operator and wait a minute",
            )
        return True

    async def _adopt(self) -> None:
        count = await self._operations.take_over(self._cluster, await self._resources.owners())
        logger.info("rows taken over by name: %d", count)
