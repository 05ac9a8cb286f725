"""Watching Kubernetes: kopf lists, watches, and authenticates; every event becomes a key.

Invariant: events carry no truth. The handlers do nothing but put the key into the queue, whose workers read the object
themselves: kopf does not repeat a handler that failed, the queue does.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

import kopf
from kopf._core.engines.peering import Identity

from pg_scheduler_operator.errors import KubernetesError
from pg_scheduler_operator.resources import GROUP, VERSION, Key, Kind

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from pg_scheduler_operator.reconciler import KeyQueue

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


async def watch(
    queue: KeyQueue, *, namespaces: Sequence[str], started: asyncio.Event, is_own: Callable[[Key, str], bool]
) -> None:
    """Watch until SIGTERM or SIGINT comes, or the API server says that watching makes no sense any more.

    Cancel it to end it without a signal. kopf's own flag for that is not used: its waiter outlives a signal, and kopf
    gives what outlives one five seconds.

    Args:
        queue: gets the keys.
        namespaces: those to watch; all when empty.
        started: set when the watch begins.
        is_own: says of an object's version whether we have made it, so that there is nothing to be done.

    Raises:
        KubernetesError: the watch has ended and cannot go on.
    """
    logging.getLogger("kopf.objects").setLevel(logging.WARNING)  # it reports each call of the handler
    try:
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
