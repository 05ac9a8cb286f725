"""The operator over a folder of files: the same plans, no cluster.

Invariant: a saved edit is a row within a second: two looks at the folder and a turn of the reconciler.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from pg_scheduler_operator.errors import InvalidManifest
from pg_scheduler_operator.gateway.files import FolderResources
from pg_scheduler_operator.gateway.local_workers import LocalTargets
from pg_scheduler_operator.gateway.scheduler import Rows
from pg_scheduler_operator.metrics import Metrics
from pg_scheduler_operator.pacing import Pacer
from pg_scheduler_operator.reconciler import KeyQueue, Loop, Reconciler, Sweeper, repeat, until_one_ends

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from pg_scheduler.control import Control
    from pg_scheduler_operator.gateway.local_workers import LocalWorkers
    from pg_scheduler_operator.resources import Key

LOOK_SECONDS: Final = 0.2
STATUS_SECONDS: Final = 1.0
STATUSES_PER_SECOND: Final = 500


async def run(
    control: Control,
    folder: Path,
    *,
    stop: asyncio.Event,
    workers: LocalWorkers | None = None,
    write_status: bool = True,
    on_status: Callable[[Key, Mapping[str, Any]], None] | None = None,
) -> None:
    """Serve the manifests of ``folder`` until ``stop`` is set.

    Args:
        control: the entered side of the database, whose tables are migrated.
        folder: its ``*.yaml``, ``*.yml`` and ``*.json`` are served, not those of folders below it.
        stop: set it to end; rows stay, as they do when an operator stops.
        workers: the processes that the folder's first WorkerPool scales; without them it has nothing to scale.
        write_status: write ``<stem>.status.yaml`` beside each file and keep identities over restarts; without it the
            database should be a throw-away one.
        on_status: called with each status as it changes.

    Raises:
        InvalidManifest: ``folder`` is no folder.
    """
    cluster = _cluster(folder)
    rows = Rows(control, cluster=cluster)
    resources = FolderResources(
        folder,
        cluster=cluster,
        write_status=write_status,
        generations={source.uid: source.generation for source in await rows.open_sources()},
        on_status=on_status,
    )
    queue = KeyQueue()
    metrics = Metrics()
    pacer: Pacer[Key] = Pacer(
        asyncio.get_running_loop().time, coalesced_seconds=STATUS_SECONDS, per_second=STATUSES_PER_SECOND
    )

    async def look() -> None:
        for key in resources.scan():
            queue.put(key)

    await look()  # before the first sweep: what is not there counts as deleted
    sweeper = Sweeper(resources, rows, metrics, may_hold=False)  # who takes files away has this folder in his hands
    reconciler = Reconciler(
        queue=queue,
        resources=resources,
        targets=LocalTargets(resources, workers),
        rows=rows,
        pacer=pacer,
        sweeper=sweeper,
        metrics=metrics,
    )
    work = asyncio.create_task(reconciler.run())
    looks = asyncio.create_task(repeat(Loop.FOLDER, look, LOOK_SECONDS, metrics=metrics))
    stopped = asyncio.create_task(stop.wait())
    await until_one_ends({work, looks, stopped})


def _cluster(folder: Path) -> str:
    if not folder.is_dir():
        raise InvalidManifest(f"{folder} is no folder", fix="name the folder that holds the manifests")
    return f"folder:{folder.resolve().name}"
