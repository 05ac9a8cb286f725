"""Objects let go, before there is no operator any more.

Invariant: nothing is let go while an operator may still put its finalizer back: its Lease is ours, and it has had the
time to notice.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from pg_scheduler_operator.errors import ObjectChanged, ObjectGone
from pg_scheduler_operator.gateway.kube import KubeResources
from pg_scheduler_operator.gateway.lease import KubeLease
from pg_scheduler_operator.leadership import LEASE_SECONDS, Election
from pg_scheduler_operator.metrics import Metrics
from pg_scheduler_operator.resources import FINALIZER, Kind, meta_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection

    from pg_scheduler_operator.gateway.kube import KubeApi
    from pg_scheduler_operator.resources import Meta

AT_ONCE: Final = 20
HELD_KINDS: Final = (Kind.PERIODIC_JOB, Kind.SCHEDULED_JOB)
"""Those that have rows of their own."""


async def release_objects(api: KubeApi, *, namespace: str, lease: str, watched: Collection[str]) -> int:
    """Take the Lease, then the finalizer off every object; how many.

    Without a Lease and without an object that is held there is nothing to do: the installation failed in a hook.

    Raises:
        KubernetesError: the Lease is not there and objects are held, by whomever, or the rights are missing.
        LeadershipLost: somebody took the Lease back, and may serve.
    """
    election = Election(
        KubeLease(api, namespace=namespace, name=lease, seconds=LEASE_SECONDS), identity="uninstall", metrics=Metrics()
    )
    resources = KubeResources(api, namespaces=watched)
    try:
        await election.take_over()
    except ObjectGone:
        if await _all_held(resources):
            raise
        return 0
    async with asyncio.TaskGroup() as group:
        holding = group.create_task(election.hold())
        released: set[str] = set()
        while held := await _all_held(resources):
            released |= await _release_once(resources, held)
        holding.cancel()
    return len(released)


async def _release_once(resources: KubeResources, held: Collection[Meta]) -> set[str]:
    """Let go what has the finalizer; the uids of what has it no more."""
    room = asyncio.Semaphore(AT_ONCE)
    released: set[str] = set()

    async def release(meta: Meta) -> None:
        async with room:
            with suppress(ObjectGone, ObjectChanged):  # seen anew in the next round
                await resources.set_finalizers(meta, [name for name in meta.finalizers if name != FINALIZER])
                released.add(meta.uid)

    async with asyncio.TaskGroup() as group:
        for meta in held:
            group.create_task(release(meta))
    return released


async def _all_held(resources: KubeResources) -> list[Meta]:
    return [meta for kind in HELD_KINDS async for meta in _held(resources, kind)]


async def _held(resources: KubeResources, kind: Kind) -> AsyncIterator[Meta]:
    with suppress(ObjectGone):  # somebody has deleted the kind, and with it all its objects
        async for page in resources.pages(kind):
            for body in page:
                meta = meta_of({**body, "kind": kind.value}, "")
                if meta.is_held:
                    yield meta
