"""The cluster's objects as ``pgscheduler simulate`` takes those of files.

Invariant: pure; what has ended is left out: it will do nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pg_scheduler_operator.cli.scenes import Declared
from pg_scheduler_operator.gateway.manifests import Manifest
from pg_scheduler_operator.plugin.facts import holds, namespace_of, spec_of
from pg_scheduler_operator.resources import Key, Kind

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pg_scheduler_operator.plugin.facts import Body

PLACE: Final = "the cluster"
"""Where a file's name would stand."""


def declared(objects: Iterable[Body]) -> list[Declared]:
    """The objects that will do something."""
    return [Declared(file=PLACE, manifest=_manifest(body)) for body in objects if not holds(body, "Finished")]


def _manifest(body: Body) -> Manifest:
    metadata = body["metadata"]
    return Manifest(
        key=Key(kind=Kind(body["kind"]), namespace=namespace_of(body), name=metadata["name"]),
        spec=spec_of(body),
        annotations=metadata.get("annotations") or {},
    )
