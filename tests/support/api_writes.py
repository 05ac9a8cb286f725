"""What API servers of tests were told to change, and whether an operator may."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection

_METADATA = {"finalizers", "resourceVersion"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """A request that is no read, and what it was answered; ``body`` as JSON."""

    method: str
    path: str
    body: Any
    status: int


def is_allowed(write: Write) -> bool:
    """Of an object, the operator patches status and finalizers; beside that it tells events and keeps its Lease."""
    match write.method:
        case "POST":
            return write.path.endswith("/events")
        case "PUT":
            return "/leases/" in write.path
        case "PATCH" if write.path.endswith("/status"):
            return _patched(write.body) == {"status"}
        case "PATCH":
            return {*write.body} == {"metadata"} and {*write.body["metadata"]} <= _METADATA
        case _:
            return False


def _patched(body: Any) -> Collection[str]:
    """The first steps of what a merge patch or a JSON patch reaches."""
    return {step["path"].split("/")[1] for step in body} if isinstance(body, list) else body.keys()
