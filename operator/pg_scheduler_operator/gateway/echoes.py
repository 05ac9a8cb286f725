"""What our own writes made of objects: the watch tells of them too, and then there is nothing to be done.

Invariant: only a write that changed nothing but what it says is its own echo; one that met another writer's change is
not, since that change must be answered.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pg_scheduler_operator.resources import meta_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pg_scheduler_operator.resources import Key, Meta


class Echoes:
    """The two newest versions that we made of each object: one turn makes no more."""

    def __init__(self) -> None:
        self._versions: dict[Key, tuple[str, ...]] = {}

    def expect(self, meta: Meta, written: Mapping[str, Any]) -> None:
        """A write has made ``written``, where ``meta`` was to stand."""
        there = meta_of(written, meta.cluster)
        if replace(there, resource_version=meta.resource_version) == meta:
            self._versions[meta.key] = (*self._versions.get(meta.key, ())[-1:], there.resource_version)

    def is_own(self, key: Key, version: str) -> bool:
        """Whether a version of an object is what we made of it."""
        return version in self._versions.get(key, ())

    def forget(self, key: Key) -> None:
        """The object is gone."""
        self._versions.pop(key, None)
