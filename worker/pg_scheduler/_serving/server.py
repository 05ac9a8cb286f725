"""The HTTP server of a worker: ``/livez``, ``/readyz``, ``/metrics``.

Invariants: it runs in the worker's own event loop, so that an answer proves that the loop turns; it answers from before
the database is reached until the worker has shut down; no request leads to a statement.
"""

import logging
import os
from collections.abc import Callable
from types import TracebackType
from typing import Self

from aiohttp import web
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, CollectorRegistry, generate_latest

from pg_scheduler._engine.vitals import Vitals
from pg_scheduler._serving.ledger import LedgerReader
from pg_scheduler._serving.metrics import WorkerCollector
from pg_scheduler._serving.probes import why_not_live, why_not_ready
from pg_scheduler._store.ledger import LedgerStore
from pg_scheduler.errors import CannotListen

CLOSE_SECONDS = 1.0

logger = logging.getLogger("pg_scheduler.serving")


class WorkerServer:
    """Serves one worker; a context manager that listens from its beginning to its end."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._look: Callable[[], Vitals | None] = lambda: None
        self._ledger: LedgerReader | None = None
        self._registry = CollectorRegistry()
        self._registry.register(WorkerCollector(self._vitals, lambda: self._ledger))
        self._runner = web.AppRunner(self._app(), access_log=None, shutdown_timeout=CLOSE_SECONDS)

    async def __aenter__(self) -> Self:
        """Listen.

        Raises:
            CannotListen: the address is taken, or not this machine's.
        """
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._host, self._port).start()
        except OSError as error:
            await self._runner.cleanup()
            raise CannotListen(
                f"cannot listen on {shown(self._host, self._port)}: {_reason(error)}",
                fix="give another address, or port 0 for any that is free",
            ) from error
        addresses = [f"http://{shown(address[0], address[1])}" for address in self._runner.addresses]
        logger.info("probes and metrics at %s", ", ".join(addresses))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._runner.cleanup()

    def watch(self, vitals: Callable[[], Vitals | None]) -> None:
        """Answer for this worker from now on."""
        self._look = vitals

    async def read_ledger(self, store: LedgerStore) -> None:
        """Keep the figures of the started worker's schedules, until cancelled."""
        vitals = self._vitals()
        if vitals is not None:
            self._ledger = LedgerReader(store, tenant=vitals.tenant)
            await self._ledger.run()

    def _vitals(self) -> Vitals | None:
        return self._look()

    def _app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/livez", self._livez)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._metrics)
        return app

    async def _livez(self, _: web.Request) -> web.Response:
        return _answer(why_not_live(self._vitals()))

    async def _readyz(self, _: web.Request) -> web.Response:
        return _answer(why_not_ready(self._vitals()))

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=generate_latest(self._registry), headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})


def shown(host: str, port: int) -> str:
    """The address as it stands in a URL."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _answer(reason: str | None) -> web.Response:
    return web.Response(text=f"{reason or 'ok'}\n", status=200 if reason is None else 503)


def _reason(error: OSError) -> str:
    """Without the text of the event loop, which says the address once more."""
    return os.strerror(error.errno) if error.errno and error.errno > 0 else str(error.strerror)
