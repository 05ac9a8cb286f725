"""The HTTP server of a process: ``/livez``, ``/readyz``, ``/metrics``; the extra ``worker``.

Invariants: it runs in the process's own event loop, so that an answer proves that the loop turns; it answers from its
beginning to its end, whatever else is away; no request leads to another one, nor to a statement.
"""

import logging
import os
from collections.abc import Callable
from types import TracebackType
from typing import Self

from aiohttp import web
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, CollectorRegistry, generate_latest
from prometheus_client.registry import Collector

from pg_scheduler.errors import CannotListen

CLOSE_SECONDS = 0.5

logger = logging.getLogger("pg_scheduler.probes")


class ProbeServer:
    """Serves one process; a context manager that listens from its beginning to its end."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        why_not_live: Callable[[], str | None],
        why_not_ready: Callable[[], str | None],
        collector: Collector,
    ) -> None:
        """Keep what is asked at each request; nothing listens yet.

        Args:
            host: an address of this machine.
            port: 0 takes any that is free.
            why_not_live: says in a word why the process should be replaced; None while it should not.
            why_not_ready: says in a word why it does not serve now; None while it does.
            collector: of the metrics.
        """
        self._host = host
        self._port = port
        self._why_not_live = why_not_live
        self._why_not_ready = why_not_ready
        self._metrics = CollectorRegistry()
        self._metrics.register(collector)
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
                f"cannot listen on {_shown(self._host, self._port)}: {_reason(error)}",
                fix="give another address, or port 0 for any that is free",
            ) from error
        logger.info("probes and metrics at %s", ", ".join(f"http://{address}" for address in self.addresses))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._runner.cleanup()

    @property
    def addresses(self) -> list[str]:
        """Where it listens, as in URLs."""
        return [_shown(address[0], address[1]) for address in self._runner.addresses]

    def _app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/livez", self._livez)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._scrape)
        return app

    async def _livez(self, _: web.Request) -> web.Response:
        return _answer(self._why_not_live())

    async def _readyz(self, _: web.Request) -> web.Response:
        return _answer(self._why_not_ready())

    async def _scrape(self, _: web.Request) -> web.Response:
        return web.Response(body=generate_latest(self._metrics), headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})


def _shown(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _answer(reason: str | None) -> web.Response:
    return web.Response(text=f"{reason or 'ok'}\n", status=200 if reason is None else 503)


def _reason(error: OSError) -> str:
    """Without the text of the event loop, which says the address once more."""
    return os.strerror(error.errno) if error.errno and error.errno > 0 else str(error.strerror)
