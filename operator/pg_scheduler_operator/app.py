"""The operator in Kubernetes, put together.

Invariants: nothing is written before the Lease is held and the cluster's name is ours; what works on keys runs before
the watch begins and ends before this returns; when any part ends by itself, so does the operator: it is started again
from outside, with nothing left half alive.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from contextlib import AsyncExitStack, asynccontextmanager
from secrets import token_hex
from typing import TYPE_CHECKING, Final, NoReturn

from pg_scheduler.control import Control
from pg_scheduler.errors import MigrationNeeded
from pg_scheduler_operator.errors import LeadershipLost
from pg_scheduler_operator.gateway.kube import KubeResources, connect
from pg_scheduler_operator.gateway.lease import KubeLease
from pg_scheduler_operator.gateway.scales import KubeTargets
from pg_scheduler_operator.gateway.scheduler import Rows
from pg_scheduler_operator.leadership import LEASE_SECONDS, Election
from pg_scheduler_operator.metrics import DATABASE_UP, LEADER, WATCH_AGE, Metrics
from pg_scheduler_operator.pacing import Pacer
from pg_scheduler_operator.presence import Presence
from pg_scheduler_operator.probes import Health, OperatorServer
from pg_scheduler_operator.reconciler import KeyQueue, Loop, Reconciler, Sweeper, repeat, retry, until_one_ends
from pg_scheduler_operator.revisions import Revisions
from pg_scheduler_operator.watch import Ear, streams, watch

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

    from pg_scheduler_operator.gateway.kube import KubeApi
    from pg_scheduler_operator.resources import Key
    from pg_scheduler_operator.settings import Settings

logger = logging.getLogger(__name__)

LOOK_SECONDS: Final = 2.0
TABLES_SECONDS: Final = 2.0
ANSWER_SECONDS: Final = 5.0


async def run_operator(
    settings: Settings,
    *,
    on_lost: Callable[[], NoReturn],
    http: tuple[str, int] | None = None,
    ready: Callable[[], None] | None = None,
    stop: asyncio.Event | None = None,
) -> None:
    """Serve custom resources until SIGTERM, SIGINT, or ``stop``.

    A database that does not answer is waited for; so are CRDs that are not there yet, tables that somebody else is to
    make, and the Lease.

    Args:
        settings: what to serve.
        on_lost: called when the Lease is lost; ends the process at once.
        http: where to serve probes and metrics, if anywhere.
        ready: called once, when the tables are there and the watch has begun.
        stop: set it to end without a signal.

    Raises:
        InvalidDsn: the data source name cannot be used.
        CannotListen: not where probes and metrics were asked for.
        NameTaken: another cluster serves the rows of this cluster name, or may do so.
        KubernetesNotConfigured: nothing says where the API server is.
        KubernetesUnreachable: it does not answer.
    """
    health = Health(metrics=Metrics())
    async with AsyncExitStack() as stack:
        if http is not None:
            await stack.enter_async_context(OperatorServer(health, *http))
        api = await stack.enter_async_context(connect(health.metrics))
        control = await stack.enter_async_context(_control(settings))
        operator = _Operator(settings, health, api, control)
        await stack.enter_async_context(_beside(operator.watch_database()))
        await operator.wait_for_tables()
        await stack.enter_async_context(operator.leading(on_lost))
        await operator.serve(ready, stop or asyncio.Event())


class _Operator:
    """The parts of one process and the order in which they start."""

    def __init__(self, settings: Settings, health: Health, api: KubeApi, control: Control) -> None:
        self._settings = settings
        self._health = health
        self._metrics = health.metrics
        self._api = api
        self._control = control
        namespace = settings.election_namespace
        self._lease = None if namespace is None else (namespace, settings.lease_name)
        self._resources = KubeResources(api, namespaces=settings.watch_namespaces, lease=self._lease)

    async def watch_database(self) -> None:
        """Know whether the database answers."""

        async def look() -> None:
            answers = False
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    await self._control.check()
                answers = True
            finally:
                self._metrics.set(DATABASE_UP, answers)

        await repeat(Loop.DATABASE, look, LOOK_SECONDS, at_most_seconds=LOOK_SECONDS, metrics=self._metrics)

    async def wait_for_tables(self) -> None:
        """Where somebody else makes them, let who leads go on until then: an older release can serve the old ones."""
        if not self._settings.migrate:
            await retry("migrations", self._bring_tables)

    async def _bring_tables(self) -> None:
        """Make or update the tables, or see that somebody else has."""
        if self._settings.migrate:
            await self._control.migrate()
            return
        try:
            await self._control.require_migrated()
        except MigrationNeeded as error:
            self._health.tables_lack = error.what
            raise
        self._health.tables_lack = None

    @asynccontextmanager
    async def leading(self, on_lost: Callable[[], NoReturn]) -> AsyncIterator[None]:
        """Hold the Lease, if one is to be held; the wait for it is the beginning."""
        if self._lease is None:
            self._metrics.set(LEADER, 1)
            yield
            return
        namespace, name = self._lease
        async with connect(self._metrics) as api:  # connections of its own: a renewal waits for no other request
            lease = KubeLease(api, namespace=namespace, name=name, seconds=LEASE_SECONDS)
            election = Election(lease, identity=f"{socket.gethostname()}_{token_hex(4)}", metrics=self._metrics)
            self._metrics.set(LEADER, 0)
            self._health.stands_by = True
            await election.acquire(on_look=self._note_api)
            self._health.stands_by = False
            self._metrics.set(LEADER, 1)
            try:
                async with _beside(_hold(election, on_lost)):
                    yield
            finally:
                await election.release()

    def _note_api(self, answers: bool) -> None:
        self._health.api_answers = answers

    async def serve(self, ready: Callable[[], None] | None, stop: asyncio.Event) -> None:
        """Make rows of objects and statuses of rows until something ends."""
        await _wait_for_kinds(self._resources)
        settings = self._settings
        rows = Rows(self._control, cluster=settings.cluster_name, is_open=False)
        presence = Presence(self._control.operations, self._resources, settings, self._metrics)
        queue = KeyQueue(is_own=self._resources.echoes.is_own)
        reconciler = self._reconciler(queue, rows)
        self._health.longest_turn_seconds = lambda: reconciler.longest_turn_seconds
        watching, opened = asyncio.Event(), asyncio.Event()

        async def prepare() -> None:
            await retry("migrations", self._bring_tables)
            await presence.begin()
            await retry("the tenants' limits", self._set_limits)
            rows.open()
            self._health.has_tables = True
            opened.set()
            await watching.wait()
            logger.info("serving")
            if ready is not None:
                ready()
            await presence.run()

        preparing = asyncio.create_task(prepare())
        opening = asyncio.create_task(opened.wait())
        # tables first, but pools are held without them too
        await asyncio.wait({preparing, opening}, timeout=TABLES_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        working = asyncio.create_task(reconciler.run())
        await asyncio.sleep(0)  # the workers exist now: kopf cancels, at its end, tasks that are younger than itself
        looking = asyncio.create_task(Revisions(self._resources, self._metrics).run())
        ear = Ear(changed=queue.tell, gone=reconciler.gone)
        watched = asyncio.create_task(self._watch(ear, watching))
        stopping = asyncio.create_task(stop.wait())
        await until_one_ends({preparing, working, looking, watched, stopping}, and_end={opening})

    async def _set_limits(self) -> None:
        settings = self._settings
        limits = {tenant: each.stored for tenant, each in settings.tenant_limits.items()}
        for tenant in await self._control.set_tenant_limits(settings.cluster_name, limits):
            logger.warning("the limits of tenant %s stay as another cluster has set them", tenant)

    def _reconciler(self, queue: KeyQueue, rows: Rows) -> Reconciler:
        pacer: Pacer[Key] = Pacer(
            asyncio.get_running_loop().time,
            metrics=self._metrics,
            per_second=self._settings.status_writes_per_second,
            burst=self._settings.status_writes_burst,
        )
        return Reconciler(
            queue=queue,
            resources=self._resources,
            targets=KubeTargets(self._api),
            rows=rows,
            pacer=pacer,
            sweeper=Sweeper(self._resources, rows, self._metrics),
            metrics=self._metrics,
        )

    async def _watch(self, ear: Ear, watching: asyncio.Event) -> None:
        namespaces = self._settings.watch_namespaces
        missing = self._health.lists = streams(namespaces)

        def told(stream: str, is_listed: bool) -> None:
            self._metrics.mark(WATCH_AGE, stream)
            if is_listed:
                missing.discard(stream)

        await watch(ear, namespaces=namespaces, started=watching, told=told)


def _control(settings: Settings) -> Control:
    return Control(
        settings.read_dsn, allow_insecure=settings.allow_insecure, reads_error_text=settings.status_error_text
    )


async def _hold(election: Election, on_lost: Callable[[], NoReturn]) -> None:
    try:
        await election.hold()
    except LeadershipLost as error:
        logger.error("%s %s", error.code, error)  # noqa: TRY400 (the error says it all)
        on_lost()


@asynccontextmanager
async def _beside(coroutine: Coroutine[None, None, object]) -> AsyncIterator[None]:
    """Run it for as long as the block lasts."""
    task = asyncio.create_task(coroutine)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})


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
