"""Watching Kubernetes: kopf lists, watches, and authenticates; every event becomes a key.

Invariants: events carry no truth but one, that an object of this uid is gone; whoever works on a key reads the object
itself. No event goes further into kopf, whose own workers would cost each object of a list a task of its own.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import kopf
from kopf._cogs.clients import watching
from kopf._core.engines.peering import Identity

from pg_scheduler_operator.errors import KubernetesError
from pg_scheduler_operator.resources import GROUP, VERSION, Key, Kind

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence

    Told = Callable[[str, bool], None]
    """Is given a stream's name, and whether that was the end of its list."""

WATCH_SECONDS: Final = 30
"""How long the API server lets a stream be, before whose end it sends a bookmark: what fell silent ends soon."""
INACTIVITY_SECONDS: Final = 40
"""A stream that has outlived that in silence is cut here: the server, or what lies between, does not answer."""
PAGE: Final = 500
REQUEST_TIMEOUT_SECONDS: Final = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Ear:
    """Whom events are told.

    Attributes:
        changed: the object of this key has this version now.
        gone: the object of this key and uid is no more.
    """

    changed: Callable[[Key, str], None]
    gone: Callable[[Key, str], None]

    def hear(self, event: Mapping[str, Any]) -> None:
        """Pass on what an event of a list or a watch means."""
        metadata = event["object"]["metadata"]
        key = key_of(event["object"])
        if event["type"] == "DELETED":
            self.gone(key, metadata["uid"])
        else:
            self.changed(key, metadata["resourceVersion"])


@kopf.on.event(GROUP, VERSION, Kind.PERIODIC_JOB.plural)
@kopf.on.event(GROUP, VERSION, Kind.SCHEDULED_JOB.plural)
@kopf.on.event(GROUP, VERSION, Kind.WORKER_POOL.plural)
async def watched(**_: Any) -> None:
    """Never called: kopf watches what has a handler."""


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
    ear: Ear,
    *,
    namespaces: Sequence[str],
    started: asyncio.Event,
    told: Told,
) -> None:
    """Watch until SIGTERM or SIGINT comes, or the API server says that watching makes no sense any more.

    Cancel it to end it without a signal. kopf's own flag for that is not used: its waiter outlives a signal, and kopf
    gives what outlives one five seconds.

    Args:
        ear: is told of each event.
        namespaces: those to watch; all when empty.
        started: set when the watch begins.
        told: called with each sign of life of a stream.

    Raises:
        KubernetesError: the watch has ended and cannot go on.
    """
    try:
        with overheard(ear, told):
            await kopf.operator(
                settings=_settings(),
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
def overheard(ear: Ear, told: Told) -> Iterator[None]:
    """Hear what comes out of kopf's streams where it comes out: kopf itself is given only the end of each list."""
    infinite_watch = watching.infinite_watch

    async def listening(**arguments: Any) -> AsyncIterator[Any]:
        name = _stream(arguments["resource"].plural, arguments["namespace"])
        async for event in infinite_watch(**arguments):
            told(name, event is watching.Bookmark.LISTED)
            if isinstance(event, watching.Bookmark):
                yield event
            elif event["type"] != "BOOKMARK":
                ear.hear(event)

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
    settings.process.ultimate_exiting_timeout = None
    return settings
