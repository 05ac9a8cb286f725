"""The operator in Kubernetes, put together.

Invariants: what works on keys runs before the watch begins and ends before this returns; when either of the two ends by
itself, so does the operator: it is started again from outside, with nothing left half alive.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from pg_scheduler.control import Control
from pg_scheduler_operator.gateway.kube import KubeResources, connect
from pg_scheduler_operator.gateway.scales import KubeTargets
from pg_scheduler_operator.gateway.scheduler import Rows
from pg_scheduler_operator.reconciler import KeyQueue, Reconciler, retry, until_one_ends
from pg_scheduler_operator.status import Pacer
from pg_scheduler_operator.watch import watch

if TYPE_CHECKING:
    from collections.abc import Callable

    from pg_scheduler_operator.settings import Settings

logger = logging.getLogger(__name__)

LOOK_SECONDS: Final = 2.0
TABLES_SECONDS: Final = 2.0


async def run_operator(
    settings: Settings, *, ready: Callable[[], None] | None = None, stop: asyncio.Event | None = None
) -> None:
    """Serve custom resources until SIGTERM, SIGINT, or ``stop``.

    A database that does not answer is waited for; so are CRDs that are not there yet.

    Args:
        settings: what to serve.
        ready: called once, when the tables are there and the watch has begun.
        stop: set it to end without a signal.

    Raises:
        InvalidDsn: the data source name cannot be used.
        KubernetesNotConfigured: nothing says where the API server is.
        KubernetesUnreachable: it does not answer.
    """
    cluster = settings.cluster_name
    async with connect() as api, Control(settings.dsn.get_secret_value()) as control:
        resources = KubeResources(api, namespaces=settings.watch_namespaces)
        await _wait_for_kinds(resources)
        queue = KeyQueue()
        pacer = Pacer(asyncio.get_running_loop().time)
        reconciler = Reconciler(
            queue=queue,
            resources=resources,
            targets=KubeTargets(api),
            rows=Rows(control, cluster=cluster),
            pacer=pacer,
        )
        watching = asyncio.Event()
        migrating = asyncio.create_task(retry("migrations", control.migrate))
        await asyncio.wait([migrating], timeout=TABLES_SECONDS)  # tables first, but pools are held without them too
        preparing = asyncio.create_task(_prepare(migrating, watching, ready))
        working = asyncio.create_task(reconciler.run())
        await asyncio.sleep(0)  # the workers exist now: kopf cancels, at its end, tasks that are younger than itself
        watch_task = asyncio.create_task(
            watch(queue, namespaces=settings.watch_namespaces, started=watching, is_own=resources.echoes.is_own)
        )
        stopping = asyncio.create_task((stop or asyncio.Event()).wait())
        await until_one_ends({working, watch_task, stopping}, and_end={migrating, preparing})


async def _wait_for_kinds(resources: KubeResources) -> None:
    """The watch looks once, when it begins, for what there is to be watched."""
    told = False
    while missing := await resources.missing_kinds():
        if not told:
            logger.warning(
                "waiting for the CRDs of %s: pgscheduler crds | kubectl apply -f -", ", ".join(sorted(missing))
            )
            told = True
        await asyncio.sleep(LOOK_SECONDS)


async def _prepare(migrating: asyncio.Task[None], watching: asyncio.Event, ready: Callable[[], None] | None) -> None:
    await migrating
    await watching.wait()
    logger.info("serving")
    if ready is not None:
        ready()
