"""Uids and generations for objects in a folder, as an API server gives them.

Invariants: the uid is a function of cluster, kind, namespace, name and how often an object of that name was deleted
before; the generation rises exactly when the spec changes.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from pg_scheduler_operator.resources import Key

_UIDS: Final = uuid.UUID("6f0b8f0e-6d0b-4f5c-9d1c-0d3f7a3f0c55")


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What an object is beside its name.

    Attributes:
        incarnation: how often an object of this name was deleted before.
        digest: of the spec, to see that it changed.
        exists: whether its manifest was there when last looked.
    """

    incarnation: int = 0
    generation: int = 0
    digest: str = ""
    exists: bool = False


class Identities:
    """The identities of a folder; kept in a file, or for this process only."""

    def __init__(self, cluster: str, *, file: Path | None, generations: Mapping[str, int]) -> None:
        """Read what is kept in ``file``; ``generations`` of rows by uid are the floor where nothing is kept."""
        self._cluster = cluster
        self._file = file
        self._floors = generations
        self._known: dict[str, Identity] = _read(file)

    def see(self, key: Key, spec: Any) -> tuple[str, int]:
        """The uid and generation of an object that is there with this spec."""
        before = self._known.get(str(key), Identity())
        now = replace(before, digest=_digest(spec), exists=True)
        uid = self._uid(key, now.incarnation)
        if now != before:
            now = replace(now, generation=max(before.generation, self._floors.get(uid, 0)) + 1)
            self._known[str(key)] = now
        return uid, now.generation

    def forget(self, key: Key) -> None:
        """The object is gone: one of the same name will be another one."""
        before = self._known.get(str(key), Identity())
        self._known[str(key)] = Identity(incarnation=before.incarnation + 1)

    def forget_missing(self, keys: Collection[Key]) -> None:
        """Objects that were taken away while nobody looked."""
        there = {str(key) for key in keys}
        for name, identity in self._known.items():
            if identity.exists and name not in there:
                self._known[name] = Identity(incarnation=identity.incarnation + 1)

    def save(self) -> None:
        """Keep what is known."""
        if self._file is not None:
            text = json.dumps({name: asdict(identity) for name, identity in sorted(self._known.items())}, indent=1)
            write_whole(self._file, text)

    def _uid(self, key: Key, incarnation: int) -> str:
        return str(uuid.uuid5(_UIDS, f"{self._cluster}/{key.kind}/{key.namespace}/{key.name}/{incarnation}"))


def write_whole(path: Path, text: str) -> None:
    """Replace a file's text, so that a reader sees the old one or the new one."""
    draft = path.with_name(f".{path.name}.new")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)


def _read(file: Path | None) -> dict[str, Identity]:
    if file is None or not file.exists():
        return {}
    return {name: Identity(**fields) for name, fields in json.loads(file.read_text(encoding="utf-8")).items()}


def _digest(spec: Any) -> str:
    return sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()[:32]
