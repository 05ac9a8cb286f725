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
REMOVAL_SECONDS: Final = 60.0
"""An operator lets an object go within 10 seconds, and within 30 if its database is away."""


async def run_trial(api: KubeApi, *, namespace: str, name: str, timeout_seconds: float) -> str:
    """Make the job, wait for its end, delete it; what came of it, in words.

    Raises:
        TrialFailed: it failed.
        WaitTooShort: it has not ended in time, or one that was deleted is not gone.
    """
    folder = f"/apis/{API_VERSION}/namespaces/{namespace}/{Kind.SCHEDULED_JOB.plural}"
    path = f"{folder}/{name}"
    what = f"ScheduledJob {namespace}/{name}"
    await _remove(api, path, what)
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
        raise WaitTooShort(f"{what} has not ended within {timeout_seconds:g} s", why=_told(last)) from None
    if not _conditions(last).get("Complete"):
        raise TrialFailed(f"{what} failed", why=_told(last))
    await _remove(api, path, what)
    return f"a worker ran pgscheduler.ping for {what}"


async def _remove(api: KubeApi, path: str, what: str) -> None:
    """Delete it and wait until it is gone."""
    last: Mapping[str, Any] = {}
    try:
        async with asyncio.timeout(REMOVAL_SECONDS):
            with suppress(ObjectGone):
                last = await api.get(path)
                await api.delete(path, uid=last["metadata"]["uid"])
                while True:
                    last = await api.get(path)
                    await asyncio.sleep(LOOK_SECONDS)
    except TimeoutError:
        held_by = ", ".join(last.get("metadata", {}).get("finalizers", ()))
        raise WaitTooShort(
            f"{what} is not gone {REMOVAL_SECONDS:g} s after its deletion",
            why=f"the finalizers {held_by} are on it: who takes them off?" if held_by else "the API server keeps it",
            fix="see whether an operator runs that serves this namespace, then repeat",
        ) from None


def _conditions(body: Mapping[str, Any]) -> Mapping[str, bool]:
    conditions = body.get("status", {}).get("conditions", ())
    return {condition["type"]: condition["status"] == "True" for condition in conditions}


def _told(body: Mapping[str, Any]) -> str:
    """What its conditions say."""
    conditions = body.get("status", {}).get("conditions", ())
    lines = [f"{one['type']}={one['status']} {one.get('reason', '')}: {one.get('message', '')}" for one in conditions]
    return "; ".join(lines) or "no operator has looked at it: is one running that serves this namespace?"
