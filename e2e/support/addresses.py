"""Where the API server has the objects that tests look at."""

from __future__ import annotations

from support.objects import API_VERSION

_OURS = f"/apis/{API_VERSION}"
_OTHERS = {"deployment": "/apis/apps/v1", "lease": "/apis/coordination.k8s.io/v1", "pod": "/api/v1"}
_SHORT = {"sjob": "scheduledjob", "pjob": "periodicjob", "wpool": "workerpool"}


def path_of(namespace: str, kind: str, name: str = "") -> str:
    """Of one object, or of all of a kind: "sjob", "ScheduledJob", "deployment"."""
    singular = _SHORT.get(kind, kind.lower())
    path = f"{_OTHERS.get(singular, _OURS)}/namespaces/{namespace}/{singular}s"
    return f"{path}/{name}" if name else path
