"""Watching Kubernetes: kopf lists, watches, and authenticates; every event becomes a key.

Invariant: events carry no truth. The handlers do nothing but put the key into the queue, whose workers read the object
themselves: kopf does not repeat a handler that failed, the queue does.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

import kopf
from kopf._cogs.clients import watching
from kopf._core.engines.peering import Identity

from pg_scheduler_operator.errors import KubernetesError
from pg_scheduler_operator.resources import GROUP, VERSION, Key, Kind

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence

    from pg_scheduler_operator.reconciler import KeyQueue

    Told = Callable[[str, bool], None]
    """Is given a stream's name, and whether that was the end of its list."""

WATCH_SECONDS: Final = 300
INACTIVITY_SECONDS: Final = 70
PAGE: Final = 500
REQUEST_TIMEOUT_SECONDS: Final = 30
WORKERS: Final = 20
IDLE_SECONDS: Final = 0.01
"""How long a worker of kopf's stays with an object that nothing more happens to: what a list passes on waits for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Memo:
    """What the handlers are given."""

    queue: KeyQueue
    is_own: Callable[[Key, str], bool]


class _NoDifferences(kopf.DiffBaseStorage):
    """Handlers of events are told no differences, for which kopf would copy each object at each event."""

    def build(self, *, body: kopf.Body, extra_fields: Iterable[Any] | None = None) -> kopf.BodyEssence:
        del body, extra_fields
        return cast("kopf.BodyEssence", {})

    def fetch(self, *, body: kopf.Body) -> None:
        """Nothing was stored."""

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: kopf.BodyEssence) -> None:
        """There is nothing to store."""


@kopf.on.event(GROUP, VERSION, Kind.PERIODIC_JOB.plural)
@kopf.on.event(GROUP, VERSION, Kind.SCHEDULED_JOB.plural)
@kopf.on.event(GROUP, VERSION, Kind.WORKER_POOL.plural)
async def changed(body: Mapping[str, Any], memo: Memo, **_: Any) -> None:
    """Something happened to an object, unless it is what we did ourselves."""
    key = key_of(body)
    if not memo.is_own(key, body["metadata"]["resourceVersion"]):
        memo.queue.put(key)


def key_of(body: Mapping[str, Any]) -> Key:
    """Which object a body is, whatever else it says."""
    metadata = body["metadata"]
    return Key(kind=Kind(body["kind"]), namespace=metadata["namespace"], name=metadata["name"])


def streams(namespaces: Sequence[str]) -> set[str]:
    """The names of the streams that there will be."""
    scopes: Sequence[str | None] = namespaces or [None]
    return {_stream(kind.plural, namespace) for kind in Kind for namespace in scopes}


def _stream(plural: str, namespace: str | None) -> str:
    return plural if namespace is None else f"{namespace}/{plural}"


async def watch(
    queue: KeyQueue,
    *,
    namespaces: Sequence[str],
    started: asyncio.Event,
    told: Told,
    is_own: Callable[[Key, str], bool],
) -> None:
    """Watch until SIGTERM or SIGINT comes, or the API server says that watching makes no sense any more.

    Cancel it to end it without a signal. kopf's own flag for that is not used: its waiter outlives a signal, and kopf
    gives what outlives one five seconds.

    Args:
        queue: gets the keys.
        namespaces: those to watch; all when empty.
        started: set when the watch begins.
        told: called with each sign of life of a stream.
        is_own: says of an object's version whether we have made it, so that there is nothing to be done.

    Raises:
        KubernetesError: the watch has ended and cannot go on.
    """
    logging.getLogger("kopf.objects").setLevel(logging.WARNING)  # it reports each call of the handler
    try:
        with overheard(told):
            await kopf.operator(
                settings=_settings(),
                memo=Memo(queue=queue, is_own=is_own),
                identity=Identity(f"{GROUP}/operator"),  # else kopf asks for the user's name, and a pod's user has none
                standalone=True,
                clusterwide=not namespaces,
                namespaces=namespaces,
                ready_flag=started,
            )
    except Exception as error:
        raise KubernetesError(
            "the watch has ended",
            why=f"{type(error).__name__}, status {getattr(error, 'status', None) or 'none'}",
            fix="check the API server and the operator's rights; the operator is to be started again",
        ) from error


@contextmanager
def overheard(told: Told) -> Iterator[None]:
    """Hear what comes out of kopf's streams, in the one place where bookmarks still are: no handler gets them."""
    infinite_watch = watching.infinite_watch

    async def listening(**arguments: Any) -> AsyncIterator[Any]:
        name = _stream(arguments["resource"].plural, arguments["namespace"])
        async for event in infinite_watch(**arguments):
            told(name, event is watching.Bookmark.LISTED)
            yield event

    watching.infinite_watch = listening
    try:
        yield
    finally:
        watching.infinite_watch = infinite_watch


def _settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.watching.server_timeout = WATCH_SECONDS
    settings.watching.inactivity_timeout = INACTIVITY_SECONDS
    settings.watching.chunk_size = PAGE
    settings.networking.request_timeout = REQUEST_TIMEOUT_SECONDS
    settings.queueing.worker_limit = WORKERS
    # a handler only puts a key: there is nothing to wait for at the end, and a default kopf takes five seconds to stop
    settings.queueing.exit_timeout = 0.2
    settings.queueing.idle_timeout = IDLE_SECONDS
    settings.process.ultimate_exiting_timeout = None
    settings.persistence.finalizer = f"{GROUP}/kopf"
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=GROUP)
    settings.persistence.diffbase_storage = _NoDifferences()
    return settings
