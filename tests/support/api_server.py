"""An API server that answers as told and records what it was asked."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from kubernetes_asyncio import client

from pg_scheduler_operator.gateway.kube import KubeApi, api_of
from pg_scheduler_operator.resources import Kind
from support.http import serving
from support.operator_world import body, scheduled_job

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SOME_OBJECT = body(Kind.SCHEDULED_JOB, scheduled_job())


@dataclass
class Server:
    """Answers in order, then with an object; requests as (method, path, content type, body), and who asked."""

    answers: list[tuple[int, Any, dict[str, str]]] = field(default_factory=list)
    requests: list[tuple[str, str, str, Any]] = field(default_factory=list)
    authorizations: list[str | None] = field(default_factory=list)
    configuration: client.Configuration = field(default_factory=client.Configuration)

    def answer(self, status: int, content: Any = None, **headers: str) -> None:
        self.answers.append((status, {} if content is None else content, headers))

    async def handle(self, request: web.Request) -> web.Response:
        text = await request.text()
        content = json.loads(text) if text else None
        self.requests.append((request.method, request.path_qs, request.content_type, content))
        self.authorizations.append(request.headers.get("Authorization"))
        status, answer, headers = self.answers.pop(0) if self.answers else (200, SOME_OBJECT, {})
        return web.json_response(answer, status=status, headers=headers)


@pytest.fixture
async def server() -> AsyncIterator[tuple[Server, KubeApi]]:
    server = Server()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.handle)
    async with serving(app) as server.configuration.host, api_of(server.configuration) as api:
        yield server, api


Served = tuple[Server, KubeApi]
