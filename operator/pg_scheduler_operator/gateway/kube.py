"""Objects in Kubernetes.

Invariants: of an object only finalizers and status are ever written, and it is deleted only by its uid; no body is
logged or put into an error.
"""

from __future__ import annotations

import json
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
from kubernetes_asyncio import client, config

from pg_scheduler.operations import Owner
from pg_scheduler_operator.errors import (
    KubernetesError,
    KubernetesNotConfigured,
    KubernetesUnreachable,
    ObjectChanged,
    ObjectGone,
)
from pg_scheduler_operator.gateway.echoes import Echoes
from pg_scheduler_operator.metrics import API_ERRORS, Metrics
from pg_scheduler_operator.resources import API_VERSION, CRD_REVISION, GROUP, VERSION, Key, Kind
from pg_scheduler_operator.status import patch

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Mapping, Sequence

    from pg_scheduler_operator.resources import Meta
    from pg_scheduler_operator.status import Notice, Reason

FIELD_MANAGER: Final = "pgscheduler-operator"
REQUEST_TIMEOUT_SECONDS: Final = 30
CONNECTIONS: Final = 20
"""At once, to one API server: to open one costs more than many requests."""
PAGE: Final = 500

_JSON: Final = "application/json"
_MERGE_PATCH: Final = "application/merge-patch+json"
_JSON_PATCH: Final = "application/json-patch+json"
_APPLY: Final = "application/apply-patch+yaml"  # JSON is YAML
_METADATA_OBJECT: Final = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
_METADATA_ONLY: Final = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
_FORBIDDEN, _GONE, _CONFLICT, _EXPIRED, _UNPROCESSABLE = 403, 404, 409, 410, 422
_ERRORS: Final = {_GONE: ObjectGone, _CONFLICT: ObjectChanged, _EXPIRED: ObjectChanged, _UNPROCESSABLE: ObjectChanged}


class KubeApi:
    """JSON over HTTP to one API server, with our errors."""

    def __init__(
        self, configuration: client.Configuration, session: aiohttp.ClientSession, *, metrics: Metrics | None = None
    ) -> None:
        self._configuration = configuration
        self._session = session
        self._proxy = _proxy(configuration)
        self._metrics = metrics or Metrics()

    async def get(self, path: str, *, accept: str = _JSON, **query: object) -> Mapping[str, Any]:
        """What stands at ``path``."""
        return await self._request("GET", path, query=query, accept=accept)

    async def post(self, path: str, body: Mapping[str, Any]) -> None:
        """Make an object."""
        await self._request("POST", path, body=body, query={"fieldManager": FIELD_MANAGER})

    async def put(self, path: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """Replace an object; as it then stands."""
        return await self._request("PUT", path, body=body, query={"fieldManager": FIELD_MANAGER})

    async def patch(self, path: str, body: Any) -> Mapping[str, Any]:
        """A JSON patch for a list of steps, a merge patch for an object; what stands there then."""
        kind = _JSON_PATCH if isinstance(body, list) else _MERGE_PATCH
        return await self._request("PATCH", path, body=body, content_type=kind, query={"fieldManager": FIELD_MANAGER})

    async def apply(self, path: str, body: Mapping[str, Any]) -> None:
        """Make the object so by server-side apply, whoever has written it before."""
        query = {"fieldManager": FIELD_MANAGER, "force": "true"}
        await self._request("PATCH", path, body=body, content_type=_APPLY, query=query)

    async def delete(self, path: str, *, uid: str) -> None:
        """Delete the object of this uid; one that is gone is no error."""
        options = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": uid}}
        with suppress(ObjectGone):
            await self._request("DELETE", path, body=options, query={})

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
            async with self._session.request(
                method,
                f"{self._configuration.host}{path}",
                params={name: str(value) for name, value in query.items() if value is not None},
                data=None if body is None else json.dumps(body),
                headers={"Accept": accept, "Content-Type": content_type, **await self._authorization()},
                proxy=self._proxy,
                server_hostname=self._configuration.tls_server_name,
            ) as response:
                answer = await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self._metrics.count(API_ERRORS, "none")
            raise KubernetesUnreachable("the API server does not answer", why=type(error).__name__) from None
        if response.status >= 300:  # noqa: PLR2004 (HTTP)
            self._metrics.count(API_ERRORS, str(response.status))
            raise _error(method, path, response.status, response.headers)
        answered: Mapping[str, Any] = json.loads(answer)
        return answered

    async def _authorization(self) -> dict[str, str]:
        """Asked for with each request, since tokens are renewed."""
        token = await self._configuration.get_api_key_with_prefix("BearerToken")
        return {"Authorization": token} if token else {}


def _proxy(configuration: client.Configuration) -> str | None:
    """The configuration's, else the environment's."""
    own: str | None = configuration.proxy
    host: str = configuration.host or ""
    url = urlsplit(host)
    if own or proxy_bypass(url.hostname or ""):
        return own
    return getproxies().get(url.scheme)


def _error(method: str, path: str, status: int, headers: Mapping[str, str]) -> KubernetesError:
    what = f"{method} {path} was answered with {status}"
    seconds = headers.get("Retry-After", "")
    retry_after = float(seconds) if seconds.isdigit() else 0.0
    return _ERRORS.get(status, KubernetesError)(what, status=status, retry_after=retry_after)


@asynccontextmanager
async def connect(metrics: Metrics | None = None) -> AsyncIterator[KubeApi]:
    """The API server of this pod's service account, else of the kubeconfig; its errors are counted.

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
    async with api_of(configuration, metrics) as api:
        yield api


@asynccontextmanager
async def api_of(configuration: client.Configuration, metrics: Metrics | None = None) -> AsyncIterator[KubeApi]:
    """The API server of a configuration.

    The client's connections, which know its certificates, but not its session: that one looks for a proxy and for a
    password at each request, in a thread each, and costs three times as much.
    """
    configuration.connection_pool_maxsize = CONNECTIONS
    async with client.ApiClient(configuration) as api:
        connector = api.rest_client.pool_manager.connector
        timeout = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_SECONDS)
        async with aiohttp.ClientSession(connector=connector, connector_owner=False, timeout=timeout) as session:
            yield KubeApi(configuration, session, metrics=metrics)


class KubeResources:
    """Custom resources and events of some namespaces, or of all."""

    def __init__(self, api: KubeApi, *, namespaces: Collection[str] = (), lease: tuple[str, str] | None = None) -> None:
        """Serve some namespaces, or all; ``lease``, a namespace and a name, stands for the operator in events."""
        self._api = api
        self._namespaces = namespaces
        self._lease = lease
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
        return {
            item["metadata"]["uid"]
            for _, path in self._lists()
            async for page in self._pages(path, accept=_METADATA_ONLY)
            for item in page
        }

    async def pages(self, kind: Kind) -> AsyncIterator[Sequence[Mapping[str, Any]]]:
        """All bodies of one kind that are served, as they stand now, page by page."""
        for listed, path in self._lists():
            if listed is kind:
                async for page in self._pages(path, accept=_JSON):
                    yield page

    def _lists(self) -> list[tuple[Kind, str]]:
        scopes = [f"/namespaces/{namespace}" for namespace in self._namespaces] or [""]
        return [(kind, f"/apis/{API_VERSION}{scope}/{kind.plural}") for scope in scopes for kind in Kind]

    async def _pages(self, path: str, *, accept: str) -> AsyncIterator[Sequence[Mapping[str, Any]]]:
        token: str | None = None
        while True:
            page = await self._api.get(path, accept=accept, limit=PAGE, **{"continue": token})
            yield page["items"] or ()  # null when empty
            token = page["metadata"].get("continue") or None
            if token is None:
                return

    async def set_finalizers(self, meta: Meta, finalizers: Collection[str]) -> None:
        """Replace the finalizers, unless the object has changed since ``meta`` was read."""
        body = {"metadata": {"finalizers": list(finalizers), "resourceVersion": meta.resource_version}}
        written = await self._api.patch(_path(meta.key), body)
        self.echoes.expect(replace(meta, finalizers=tuple(finalizers)), written)

    async def remove(self, meta: Meta) -> None:
        """Delete the object that ``meta`` was read of, and no other of its name."""
        await self._api.delete(_path(meta.key), uid=meta.uid)

    async def write_status(self, meta: Meta, live: Mapping[str, Any], desired: Mapping[str, Any]) -> None:
        """Make the status ``desired``; ``live`` is what was read."""
        written = await self._api.patch(f"{_path(meta.key)}/status", patch(live, desired))
        self.echoes.expect(meta, written)

    async def identity(self) -> str:
        """What tells this cluster from every other one: the uid of a namespace that is there as long as it is."""
        uid: str = (await self._api.get("/api/v1/namespaces/kube-system", accept=_METADATA_OBJECT))["metadata"]["uid"]
        return uid

    async def crd_revisions(self) -> Mapping[str, int] | None:
        """The revision of each of our CRDs by its name, 0 where it has none; None without the right to read them."""
        try:
            return {kind.crd_name: await self._crd_revision(kind) for kind in Kind}
        except KubernetesError as error:
            if error.status == _FORBIDDEN:
                return None
            raise

    async def _crd_revision(self, kind: Kind) -> int:
        path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{kind.crd_name}"
        metadata = (await self._api.get(path, accept=_METADATA_OBJECT))["metadata"]
        said: str = (metadata.get("annotations") or {}).get(CRD_REVISION, "")
        return int(said) if said.isascii() and said.isdigit() else 0

    async def owners(self) -> Sequence[Owner]:
        """All objects that are served: complete, or an error."""
        return [
            Owner(
                kind=kind.value,
                tenant=item["metadata"]["namespace"],
                name=item["metadata"]["name"],
                uid=item["metadata"]["uid"],
                generation=item["metadata"]["generation"],
            )
            for kind, path in self._lists()
            async for page in self._pages(path, accept=_METADATA_ONLY)
            for item in page
        ]

    async def tell(self, notice: Notice) -> None:
        """Tell an event, unless it was told before."""
        await self._post_event(notice.about.key.namespace, _event(notice))

    async def warn(self, reason: Reason, note: str) -> None:
        """Tell an event about the Lease; a log has it too."""
        if self._lease is None:
            return
        namespace, name = self._lease
        digest = sha256(f"{reason}/{note}".encode()).hexdigest()
        lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "namespace": namespace, "name": name}
        with suppress(KubernetesError):
            await self._post_event(
                namespace, _event_of(f"{name}.{digest[:16]}", namespace, lease, "Warning", reason, note)
            )

    async def _post_event(self, namespace: str, event: Mapping[str, Any]) -> None:
        try:
            await self._api.post(f"/apis/events.k8s.io/v1/namespaces/{namespace}/events", event)
        except ObjectChanged as error:
            if error.status != _CONFLICT:
                raise


def _path(key: Key) -> str:
    return f"/apis/{API_VERSION}/namespaces/{key.namespace}/{key.kind.plural}/{key.name}"


def _event(notice: Notice) -> dict[str, Any]:
    meta = notice.about
    regarding = {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": meta.key.kind.value,
        "namespace": meta.key.namespace,
        "name": meta.key.name,
        "uid": meta.uid,
    }
    return _event_of(notice.name, meta.key.namespace, regarding, notice.type, notice.reason, notice.note)


def _event_of(
    name: str, namespace: str, regarding: Mapping[str, str], kind: str, reason: Reason, note: str
) -> dict[str, Any]:
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": namespace},
        "eventTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "reportingController": GROUP,
        "reportingInstance": FIELD_MANAGER,
        "action": "Reconcile",
        "reason": reason.value,
        "type": kind,
        "note": note[:1024],
        "regarding": regarding,
    }
