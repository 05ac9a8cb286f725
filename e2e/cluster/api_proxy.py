"""A second address of the API server, which fails as a test wishes and tells what was written through it.

Invariant: without a fault it changes nothing: bodies, statuses and streams pass as they are, and so does the client's
bearer token (a client certificate cannot). A fault begins and ends when it is told to, for connections that are open
too, so the API server itself and its controllers never notice.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from enum import StrEnum
from threading import Thread
from typing import TYPE_CHECKING, Any, Self

from aiohttp import ClientError, ClientSession, ClientTimeout, TCPConnector, web
from yarl import URL

from support.api_writes import Write

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator, Mapping
    from pathlib import Path

    from cluster.pki import Credentials

_HOST = "127.0.0.1"
_STEP_SECONDS = 10
_LATE_SECONDS = 0.5
_BODY_MAX = 16 * 1024 * 1024
# Of one connection, not of the message: https://www.rfc-editor.org/rfc/rfc9110#section-7.6.1
_HOP_BY_HOP = {"connection", "content-length", "host", "keep-alive", "transfer-encoding", "upgrade"}


class Fault(StrEnum):
    """What every request meets while it lasts; CONFLICT only patches, EXPIRED only watches.

    A watch that is open goes on beside THROTTLED and BROKEN, so that people's changes are heard of and not to be done.
    LATE: the answer is right when it is given, but under way for a while.
    """

    CONFLICT = "409"
    EXPIRED = "410"
    THROTTLED = "429"
    BROKEN = "500"
    HANG = "hang"
    LATE = "late"
    RESET = "reset"


_CUTS_WATCHES = {Fault.EXPIRED, Fault.RESET}
_REASONS = {
    Fault.CONFLICT: "Conflict",
    Fault.EXPIRED: "Expired",
    Fault.THROTTLED: "TooManyRequests",
    Fault.BROKEN: "InternalError",
}


class ApiProxy:
    """Runs in a thread of its own, for as long as a with-block."""

    def __init__(self, upstream: str, *, authority: Path, serving: Credentials) -> None:
        self.writes: list[Write] = []
        self._upstream = upstream
        self._to_upstream = ssl.create_default_context(cafile=authority)
        self._to_clients = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._to_clients.load_cert_chain(serving.certificate, serving.key)
        self._thread = Thread(target=lambda: asyncio.run(self._run()), name="API proxy", daemon=True)
        self._serves: Future[None] = Future()
        self._fault: Fault | None = None
        self._open: list[web.Request] = []

    def __enter__(self) -> Self:
        self._thread.start()
        self._serves.result(_STEP_SECONDS)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(_STEP_SECONDS)

    @contextmanager
    def failing(self, fault: Fault) -> Iterator[None]:
        self._call(self._begin(fault))
        try:
            yield
        finally:
            self._call(self._heal())

    def status_writes(self) -> dict[str, int]:
        """How many the API server took, by the path of the object."""
        counts: dict[str, int] = {}
        for write in self.writes:
            path, _, subresource = write.path.rpartition("/")
            if subresource == "status" and write.status == 200:
                counts[path] = counts.get(path, 0) + 1
        return counts

    def _call(self, coroutine: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(_STEP_SECONDS)

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        self._flows = asyncio.Event()
        self._flows.set()
        application = web.Application(client_max_size=_BODY_MAX)
        application.router.add_route("*", "/{path:.*}", self._handle)
        connector = TCPConnector(ssl=self._to_upstream, limit=0)
        # Nothing runs on when this ends: asyncio.run cancels what still waits for either side.
        async with ClientSession(
            connector=connector, timeout=ClientTimeout(total=None), auto_decompress=False
        ) as self._session:
            runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
            await runner.setup()
            await web.TCPSite(runner, _HOST, 0, ssl_context=self._to_clients).start()
            self.url = f"https://{_HOST}:{runner.addresses[0][1]}"
            self._serves.set_result(None)
            await self._stopping.wait()
            self._abort_open()
            await runner.cleanup()

    async def _begin(self, fault: Fault) -> None:
        self._fault = fault
        if fault is Fault.HANG:
            self._flows.clear()
        if fault in _CUTS_WATCHES:
            self._abort_open()

    async def _heal(self) -> None:
        self._fault = None
        self._flows.set()

    def _abort_open(self) -> None:
        for request in self._open:
            _abort(request)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self._open.append(request)
        try:
            # A client that gave up hears no more, but what it has sent still happens, as with a slow server.
            with suppress(ClientError, ConnectionError):
                response = await self._answer(request, body)
                self._record(request, body, response.status)
                return response
            _abort(request)
            return web.Response(status=502)
        finally:
            self._open.remove(request)

    async def _answer(self, request: web.Request, body: bytes) -> web.StreamResponse:
        await self._flows.wait()
        match self._fault:
            case Fault.CONFLICT if request.method == "PATCH":
                return _refusal(Fault.CONFLICT)
            case Fault.EXPIRED if "watch" in request.query:
                return web.json_response({"type": "ERROR", "object": _status(Fault.EXPIRED)})
            case Fault.THROTTLED | Fault.BROKEN as fault:
                return _refusal(fault)
            case Fault.RESET:
                raise ConnectionResetError
            case _:
                return await self._forward(request, body)

    async def _forward(self, request: web.Request, body: bytes) -> web.StreamResponse:
        url = URL(f"{self._upstream}{request.path_qs}", encoded=True)
        async with self._session.request(
            request.method, url, headers=_passed_on(request.headers), data=body or None
        ) as answered:
            if self._fault is Fault.LATE:
                await asyncio.sleep(_LATE_SECONDS)
            response = web.StreamResponse(status=answered.status, headers=_passed_on(answered.headers))
            await response.prepare(request)
            async for chunk in answered.content.iter_any():
                await self._flows.wait()
                await response.write(chunk)
            await response.write_eof()
            return response

    def _record(self, request: web.Request, body: bytes, status: int) -> None:
        if request.method != "GET":
            said = json.loads(body) if body else None
            self.writes.append(Write(method=request.method, path=request.path, body=said, status=status))


def _passed_on(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() not in _HOP_BY_HOP}


def _abort(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()


def _refusal(fault: Fault) -> web.Response:
    headers = {"Retry-After": "1"} if fault is Fault.THROTTLED else {}
    return web.json_response(_status(fault), status=int(fault), headers=headers)


def _status(fault: Fault) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Status",
        "status": "Failure",
        "code": int(fault),
        "reason": _REASONS[fault],
        "message": "injected",
    }
