"""Objects in Kubernetes.

Invariants: of an object only finalizers and status are ever written; no body is logged or put into an error.
"""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import aiohttp
from kubernetes_asyncio import client, config

from pg_scheduler_operator.errors import (
    KubernetesError,
    KubernetesNotConfigured,
    KubernetesUnreachable,
    ObjectChanged,
    ObjectGone,
)
from pg_scheduler_operator.gateway.echoes import Echoes
from pg_scheduler_operator.resources import API_VERSION, GROUP, VERSION, Key, Kind
from pg_scheduler_operator.status import patch

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Mapping, Sequence

    from pg_scheduler_operator.resources import Meta
    from pg_scheduler_operator.status import Notice

FIELD_MANAGER: Final = "pgscheduler-operator"
REQUEST_TIMEOUT_SECONDS: Final = 30
PAGE: Final = 500

_JSON: Final = "application/json"
_MERGE_PATCH: Final = "application/merge-patch+json"
_JSON_PATCH: Final = "application/json-patch+json"
_METADATA_ONLY: Final = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
_GONE, _CONFLICT, _EXPIRED, _UNPROCESSABLE = 404, 409, 410, 422
_ERRORS: Final = {_GONE: ObjectGone, _CONFLICT: ObjectChanged, _EXPIRED: ObjectChanged, _UNPROCESSABLE: ObjectChanged}


class KubeApi:
    """JSON over HTTP to one API server, with our errors."""

    def __init__(self, api: client.ApiClient) -> None:
        self._api = api

    async def get(self, path: str, *, accept: str = _JSON, **query: object) -> Mapping[str, Any]:
        """What stands at ``path``."""
        return await self._request("GET", path, query=query, accept=accept)

    async def post(self, path: str, body: Mapping[str, Any]) -> None:
        """Make an object."""
        await self._request("POST", path, body=body, query={"fieldManager": FIELD_MANAGER})

    async def patch(self, path: str, body: Any) -> Mapping[str, Any]:
        """A JSON patch for a list of steps, a merge patch for an object; what stands there then."""
        kind = _JSON_PATCH if isinstance(body, list) else _MERGE_PATCH
        return await self._request("PATCH", path, body=body, content_type=kind, query={"fieldManager": FIELD_MANAGER})

    async def _request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, object],
        body: Any = None,
        content_type: str = _JSON,
        accept: str = _JSON,
    ) -> Mapping[str, Any]:
        try:
            response = await self._api.call_api(
                path,
                method,
                query_params=[(name, value) for name, value in query.items() if value is not None],
                header_params={"Accept": accept, "Content-Type": content_type},
                body=body,
                auth_settings=["BearerToken"],
                _preload_content=False,  # the client would log every body
                _request_timeout=REQUEST_TIMEOUT_SECONDS,
            )
            async with response:
                answer = await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise KubernetesUnreachable("the API server does not answer", why=type(error).__name__) from None
        if response.status >= 300:  # noqa: PLR2004 (HTTP)
            raise _error(method, path, response.status, response.headers)
        answered: Mapping[str, Any] = json.loads(answer)
        return answered


def _error(method: str, path: str, status: int, headers: Mapping[str, str]) -> KubernetesError:
    what = f"{method} {path} was answered with {status}"
    seconds = headers.get("Retry-After", "")
    retry_after = float(seconds) if seconds.isdigit() else 0.0
    return _ERRORS.get(status, KubernetesError)(what, status=status, retry_after=retry_after)


@asynccontextmanager
async def connect() -> AsyncIterator[KubeApi]:
    """The API server of this pod's service account, else of the kubeconfig.

    Raises:
        KubernetesNotConfigured: there is neither.
    """
    configuration = client.Configuration()
    try:
        config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
    except config.ConfigException:
        try:
            await config.load_kube_config(client_configuration=configuration)
        except (config.ConfigException, OSError) as error:
            raise KubernetesNotConfigured(
                "there is no API server to talk to",
                why="this process has neither a service account nor a readable kubeconfig",
                fix="run it in a pod, or set $KUBECONFIG",
            ) from error
    async with client.ApiClient(configuration) as api:
        yield KubeApi(api)


class KubeResources:
    """Custom resources and events of some namespaces, or of all."""

    def __init__(self, api: KubeApi, *, namespaces: Collection[str] = ()) -> None:
        self._api = api
        self._namespaces = namespaces
        self.echoes: Final = Echoes()

    async def missing_kinds(self) -> Collection[str]:
        """Kinds that the API server does not serve (yet)."""
        groups = await self._api.get("/apis")
        if GROUP not in {group["name"] for group in groups["groups"]}:
            return list(Kind)
        served = await self._api.get(f"/apis/{API_VERSION}")
        return set(Kind) - {resource["kind"] for resource in served["resources"]}

    def serves(self, namespace: str) -> bool:
        """Whether objects of this namespace are served here."""
        return not self._namespaces or namespace in self._namespaces

    async def get(self, key: Key) -> Mapping[str, Any] | None:
        """The object's body as it stands now, None when there is none."""
        try:
            return await self._api.get(_path(key))
        except ObjectGone:
            self.echoes.forget(key)
            return None

    async def uids(self) -> Collection[str]:
        """Uids of all objects that are served: complete, or an error."""
        pages = [page for kind in Kind async for page in self._pages(kind, accept=_METADATA_ONLY)]
        return {item["metadata"]["uid"] for page in pages for item in page}

    async def pages(self, kind: Kind) -> AsyncIterator[Sequence[Mapping[str, Any]]]:
        """All bodies of one kind that are served, as they stand now, page by page."""
        async for page in self._pages(kind, accept=_JSON):
            yield page

    async def _pages(self, kind: Kind, *, accept: str) -> AsyncIterator[Sequence[Mapping[str, Any]]]:
        for scope in [f"/namespaces/{namespace}" for namespace in self._namespaces] or [""]:
            token: str | None = None
            while True:
                path = f"/apis/{API_VERSION}{scope}/{kind.plural}"
                page = await self._api.get(path, accept=accept, limit=PAGE, **{"continue": token})
                yield page["items"] or ()  # null when empty
                token = page["metadata"].get("continue") or None
                if token is None:
                    break

    async def set_finalizers(self, meta: Meta, finalizers: Collection[str]) -> None:
        """Replace the finalizers, unless the object has changed since ``meta`` was read."""
        body = {"metadata": {"finalizers": list(finalizers), "resourceVersion": meta.resource_version}}
        written = await self._api.patch(_path(meta.key), body)
        self.echoes.expect(replace(meta, finalizers=tuple(finalizers)), written)

    async def write_status(self, meta: Meta, live: Mapping[str, Any], desired: Mapping[str, Any]) -> None:
        """Make the status ``desired``; ``live`` is what was read."""
        written = await self._api.patch(f"{_path(meta.key)}/status", patch(live, desired))
        self.echoes.expect(meta, written)

    async def tell(self, notice: Notice) -> None:
        """Tell an event, unless it was told before."""
        try:
            await self._api.post(
                f"/apis/events.k8s.io/v1/namespaces/{notice.about.key.namespace}/events", _event(notice)
            )
        except ObjectChanged as error:
            if error.status != _CONFLICT:
                raise


def _path(key: Key) -> str:
    return f"/apis/{API_VERSION}/namespaces/{key.namespace}/{key.kind.plural}/{key.name}"


def _event(notice: Notice) -> dict[str, Any]:
    meta = notice.about
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": notice.name, "namespace": meta.key.namespace},
        "eventTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "reportingController": GROUP,
        "reportingInstance": FIELD_MANAGER,
        "action": "Reconcile",
        "reason": notice.reason.value,
        "type": notice.type,
        "note": notice.note[:1024],
        "regarding": {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": meta.key.kind.value,
            "namespace": meta.key.namespace,
            "name": meta.key.name,
            "uid": meta.uid,
        },
    }
