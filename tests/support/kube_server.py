"""As much of an API server as the operator speaks to, over HTTP and in this process: lists, watches, patches, a Lease.

Invariant: what a real one refuses (an old resourceVersion, a failed test of a JSON patch, an object that is gone) is
refused here; every write is recorded as it came. A fault is a function that is asked before each request.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any, Final

import yaml
from aiohttp import web

from pg_scheduler_operator.crdgen import crds
from pg_scheduler_operator.resources import API_VERSION, GROUP, VERSION, Kind
from support.api_writes import Write
from support.http import serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
    from pathlib import Path

    Fault = Callable[[web.Request], Awaitable[web.StreamResponse | None]]

OURS: Final = f"/apis/{API_VERSION}"
LEASE_PATH: Final = "/apis/coordination.k8s.io/v1/namespaces/ops/leases/pgscheduler-operator"


def crd_path(name: str) -> str:
    return f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}"


@dataclass
class ApiServer:
    """Objects by path; ``identity`` is the uid of kube-system."""

    identity: str = "cluster-1"
    objects: dict[str, dict[str, Any]] = field(default_factory=dict)
    writes: list[Write] = field(default_factory=list)
    fault: Fault | None = None
    address: str = ""
    _watchers: dict[str, set[asyncio.Queue[dict[str, Any]]]] = field(default_factory=dict)
    _numbers: count[int] = field(default_factory=lambda: count(1))

    def __post_init__(self) -> None:
        self._put("/api/v1/namespaces/kube-system", {"metadata": {"name": "kube-system", "uid": self.identity}})
        self._put(LEASE_PATH, {"metadata": {"name": "pgscheduler-operator", "namespace": "ops"}})
        for crd in crds():
            self._put(crd_path(crd["metadata"]["name"]), {"metadata": crd["metadata"]})

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[ApiServer]:
        """Listen for as long as the block lasts."""
        app = web.Application(middlewares=[self._recording])
        app.router.add_route("*", "/{path:.*}", self._answer)
        async with serving(app) as self.address:
            yield self

    def kubeconfig(self, folder: Path) -> Path:
        """A file that leads here."""
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "x",
            "clusters": [{"name": "x", "cluster": {"server": self.address}}],
            "users": [{"name": "x", "user": {"token": "t0ken"}}],
            "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
        }
        path = folder / f"kubeconfig-{self.identity}"
        path.write_text(yaml.safe_dump(config))
        return path

    def apply(self, kind: Kind, name: str, spec: Mapping[str, Any], *, namespace: str = "billing") -> str:
        """Make or change an object, as its user does; its path."""
        path = f"{OURS}/namespaces/{namespace}/{kind.plural}/{name}"
        live = self.objects.get(path)
        if live is None:
            metadata = {"name": name, "namespace": namespace, "uid": f"uid-{next(self._numbers)}", "generation": 0}
            live = {"apiVersion": API_VERSION, "kind": kind.value, "metadata": metadata}
        metadata = {**live["metadata"], "generation": live["metadata"]["generation"] + 1}
        self._put(path, {**live, "spec": dict(spec), "metadata": metadata})
        return path

    def delete(self, path: str) -> None:
        """Ask for the deletion of an object, as its user does."""
        live = self.objects[path]
        self._put(path, {**live, "metadata": {**live["metadata"], "deletionTimestamp": "2026-11-24T12:00:00Z"}})

    def hand_lease_to(self, holder: str) -> None:
        """Somebody else writes the Lease."""
        live = self.objects[LEASE_PATH]
        self._put(LEASE_PATH, {**live, "spec": {**live.get("spec", {}), "holderIdentity": holder}})

    def condition(self, path: str, name: str) -> str | None:
        """The status of a condition, as its user sees it."""
        conditions = self.objects[path].get("status", {}).get("conditions", ())
        return next((condition["status"] for condition in conditions if condition["type"] == name), None)

    def _put(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        kind = "MODIFIED" if path in self.objects else "ADDED"
        body = {**body, "metadata": {**body["metadata"], "resourceVersion": str(next(self._numbers))}}
        if "deletionTimestamp" in body["metadata"] and not body["metadata"].get("finalizers"):
            kind = "DELETED"
            self.objects.pop(path, None)
        else:
            self.objects[path] = body
        for queue in self._watchers.get(path.rsplit("/", 2)[1], ()):
            queue.put_nowait({"type": kind, "object": body})
        return body

    @web.middleware
    async def _recording(self, request: web.Request, handler: Any) -> web.StreamResponse:
        response = None if self.fault is None else await self.fault(request)
        response = response or await handler(request)
        if request.method != "GET":
            body = json.loads(await request.text())
            self.writes.append(Write(method=request.method, path=request.path, body=body, status=response.status))
        return response

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        path, plural = request.path, request.path.rsplit("/", 1)[-1]
        if path in _DISCOVERY:
            return web.json_response(_DISCOVERY[path])
        if path.startswith(OURS) and plural in {kind.plural for kind in Kind}:
            return await self._watch(request, plural) if "watch" in request.query else self._list(plural)
        if request.method == "POST":
            return web.json_response({}, status=201)
        return await self._object(request, path)

    def _list(self, plural: str) -> web.Response:
        items = [body for path, body in self.objects.items() if path.rsplit("/", 2)[1] == plural]
        return web.json_response({"items": items, "metadata": {"resourceVersion": str(next(self._numbers))}})

    async def _watch(self, request: web.Request, plural: str) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._watchers.setdefault(plural, set()).add(queue)
        try:
            while True:
                await response.write(json.dumps(await queue.get()).encode() + b"\n")
        finally:
            self._watchers[plural].discard(queue)

    def end_watches(self, event: dict[str, Any]) -> None:
        """Tell every watch this, such as an ERROR with 410."""
        for queues in self._watchers.values():
            for queue in queues:
                queue.put_nowait(event)

    async def _object(self, request: web.Request, path: str) -> web.Response:
        path = path.removesuffix("/status")
        live = self.objects.get(path)
        if live is None:
            return web.json_response({"code": 404}, status=404)
        if request.method == "GET":
            return web.json_response(live)
        body = await request.json()
        if request.method == "PUT":
            is_old = body["metadata"]["resourceVersion"] != live["metadata"]["resourceVersion"]
            return web.json_response({}, status=409) if is_old else web.json_response(self._put(path, body))
        if isinstance(body, list):
            return self._json_patch(path, live, body)
        version = body.get("metadata", {}).pop("resourceVersion", live["metadata"]["resourceVersion"])
        if version != live["metadata"]["resourceVersion"]:
            return web.json_response({}, status=409)
        return web.json_response(self._put(path, _merged(live, body)))

    def _json_patch(self, path: str, live: dict[str, Any], steps: list[dict[str, Any]]) -> web.Response:
        status = dict(live.get("status", {}))
        for step in steps:
            name = step["path"].removeprefix("/status/")
            if step["op"] == "test" and status.get(name) != step["value"]:
                return web.json_response({}, status=422)
            if step["op"] == "remove":
                del status[name]
            elif step["op"] == "add":
                status[name] = step["value"]
        return web.json_response(self._put(path, {**live, "status": status}))


def _merged(live: Any, patch: Any) -> Any:
    if not isinstance(patch, dict) or not isinstance(live, dict):
        return patch
    return live | {name: _merged(live.get(name), value) for name, value in patch.items()}


_VERSIONS: Final = {"groupVersion": API_VERSION, "version": VERSION}
_VERBS: Final = ["get", "list", "watch", "patch"]
_DISCOVERY: Final = {
    "/api": {"versions": ["v1"]},
    # kopf looks for this one before it watches anything
    "/api/v1": {
        "resources": [
            {"name": "namespaces", "singularName": "", "kind": "Namespace", "namespaced": False, "verbs": _VERBS}
        ]
    },
    "/apis": {"groups": [{"name": GROUP, "versions": [_VERSIONS], "preferredVersion": _VERSIONS}]},
    OURS: {
        "resources": [
            {"name": k.plural, "singularName": "", "kind": k.value, "namespaced": True, "verbs": _VERBS} for k in Kind
        ]
    },
}
