"""One job from the API server through the database and a worker, and back."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from pg_scheduler_operator.errors import ObjectGone, TrialFailed, WaitTooShort
from pg_scheduler_operator.resources import API_VERSION, Kind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pg_scheduler_operator.gateway.kube import KubeApi

LOOK_SECONDS: Final = 0.5


async def run_trial(api: KubeApi, *, namespace: str, name: str, timeout_seconds: float) -> str:
    """Make the job, wait for its end, delete it; what came of it, in words.

    Raises:
        TrialFailed: it failed.
        WaitTooShort: it has not ended in time.
    """
    folder = f"/apis/{API_VERSION}/namespaces/{namespace}/{Kind.SCHEDULED_JOB.plural}"
    path = f"{folder}/{name}"
    await _remove(api, path)
    await api.post(
        folder,
        {
            "apiVersion": API_VERSION,
            "kind": Kind.SCHEDULED_JOB.value,
            "metadata": {"name": name},
            "spec": {"template": {"spec": {"task": "pgscheduler.ping"}}},
        },
    )
    last: Mapping[str, Any] = {}
    try:
        async with asyncio.timeout(timeout_seconds):
            while not (conditions := _conditions(last)).get("Complete") and not conditions.get("Failed"):
                await asyncio.sleep(LOOK_SECONDS)
                last = await api.get(path)
    except TimeoutError:
        what = f"ScheduledJob {namespace}/{name} has not ended within {timeout_seconds:g} s"
        raise WaitTooShort(what, why=_told(last)) from None
    if not _conditions(last).get("Complete"):
        raise TrialFailed(f"ScheduledJob {namespace}/{name} failed", why=_told(last))
    await _remove(api, path)
    return f"a worker ran pgscheduler.ping for ScheduledJob {namespace}/{name}"


async def _remove(api: KubeApi, path: str) -> None:
    """Delete it and wait until it is gone."""
    with suppress(ObjectGone):
        body = await api.get(path)
        await api.delete(path, uid=body["metadata"]["uid"])
        while True:
            await api.get(path)
            await asyncio.sleep(LOOK_SECONDS)


def _conditions(body: Mapping[str, Any]) -> Mapping[str, bool]:
    conditions = body.get("status", {}).get("conditions", ())
    return {condition["type"]: condition["status"] == "True" for condition in conditions}


def _told(body: Mapping[str, Any]) -> str:
    """What its conditions say."""
    conditions = body.get("status", {}).get("conditions", ())
    lines = [f"{one['type']}={one['status']} {one.get('reason', '')}: {one.get('message', '')}" for one in conditions]
    return "; ".join(lines) or "no operator has looked at it: is one running that serves this namespace?"
