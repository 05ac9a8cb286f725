"""Speaking to the API server without the start of a kubectl for each look, or for each of a thousand objects."""

from __future__ import annotations

import asyncio
import json
import ssl
from dataclasses import dataclass
from http.client import HTTPException, HTTPSConnection
from typing import TYPE_CHECKING, Any

from aiohttp import ClientSession, TCPConnector

from cluster import network

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from cluster.pki import Credentials

_TIMEOUT_SECONDS = 10
_AT_ONCE = 32
_MERGE_PATCH = "application/merge-patch+json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A write. The body of a PATCH is a merge patch."""

    method: str
    path: str
    body: dict[str, Any] | None = None


class Api:
    """The API server as seen with one client certificate, or by nobody in particular."""

    def __init__(self, authority: Path, user: Credentials | None = None) -> None:
        self._context = ssl.create_default_context(cafile=authority)
        if user is not None:
            self._context.load_cert_chain(user.certificate, user.key)

    def get(self, path: str) -> dict[str, Any] | None:
        """The object at the path ("/api/v1/nodes/n1"), None if there is none."""
        status, body = self._ask(path)
        if status == 404:
            return None
        if status != 200:
            raise OSError(f"GET {path} answered {status}: {body.decode(errors='replace')}")
        found: dict[str, Any] = json.loads(body)
        return found

    def get_text(self, path: str) -> str:
        """What is not JSON: "/metrics"."""
        _, body = self._ask(path)
        return body.decode()

    def send_all(self, requests: Iterable[Request]) -> None:
        """Many at once, in no particular order. The first that is refused raises."""
        asyncio.run(self._send_all(requests))

    def is_ready(self) -> bool:
        try:
            status, _ = self._ask("/readyz")
        except (OSError, HTTPException):
            return False
        return status == 200

    def _ask(self, path: str) -> tuple[int, bytes]:
        connection = HTTPSConnection(network.API_SERVER, context=self._context, timeout=_TIMEOUT_SECONDS)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    async def _send_all(self, requests: Iterable[Request]) -> None:
        left = iter(requests)
        connector = TCPConnector(ssl=self._context, limit=_AT_ONCE)
        async with ClientSession(network.API_SERVER_URL, connector=connector) as session, asyncio.TaskGroup() as hands:
            for _ in range(_AT_ONCE):
                hands.create_task(_send_each(session, left))


async def _send_each(session: ClientSession, requests: Iterable[Request]) -> None:
    for request in requests:
        kind = _MERGE_PATCH if request.method == "PATCH" else "application/json"
        body = None if request.body is None else json.dumps(request.body)
        async with session.request(request.method, request.path, data=body, headers={"Content-Type": kind}) as answer:
            if not answer.ok:
                raise OSError(f"{request.method} {request.path} answered {answer.status}: {await answer.text()}")
            await answer.read()
