"""Objects in a folder of files, with what the API server would add to them.

Invariants: a manifest that is taken away stays, as being deleted, until its rows are withdrawn; a file that cannot be
read changes nothing about the objects that it held; a file is read only when two looks in a row have found it the same,
so that no half of a save is taken for the whole.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import yaml

from pg_scheduler_operator.errors import InvalidManifest, ObjectGone
from pg_scheduler_operator.gateway.identities import Identities, write_whole
from pg_scheduler_operator.gateway.manifests import Manifest, read_manifests
from pg_scheduler_operator.resources import API_VERSION, FINALIZER, Key, stamp

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
    from pathlib import Path

    from pg_scheduler_operator.resources import Kind, Meta
    from pg_scheduler_operator.status import Notice, Reason

logger = logging.getLogger(__name__)

SUFFIXES: Final = {".yaml", ".yml", ".json"}
STATUS_SUFFIX: Final = ".status.yaml"
STATE_FILE: Final = ".pgscheduler-state.json"

Signature = tuple[int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One object of the folder."""

    manifest: Manifest
    path: Path
    uid: str
    generation: int
    status: Mapping[str, Any] = field(default_factory=dict)
    deletion_at: datetime | None = None

    @property
    def body(self) -> dict[str, Any]:
        """The object as the API server would show it. Our finalizer is always on: the folder itself keeps it."""
        metadata = {
            "name": self.manifest.key.name,
            "namespace": self.manifest.key.namespace,
            "uid": self.uid,
            "generation": self.generation,
            "finalizers": [FINALIZER],
        }
        if self.deletion_at is not None:
            metadata["deletionTimestamp"] = stamp(self.deletion_at)
        return {
            "apiVersion": API_VERSION,
            "kind": self.manifest.key.kind.value,
            "metadata": metadata,
            "spec": self.manifest.spec,
            "status": self.status,
        }


def manifest_files(folder: Path) -> list[Path]:
    """The files of a folder that hold manifests, by name; not those of folders below it."""
    return [path for path in sorted(folder.iterdir()) if _is_manifest(path)]


class FileScan:
    """The files of a folder and what was last read from each."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._looked: dict[Path, Signature] | None = None
        self._read: dict[Path, Signature] = {}
        self.manifests: dict[Path, list[Manifest]] = {}

    def look(self) -> None:
        """One look at the folder; files that have settled are read."""
        found = {path: _signature(path) for path in manifest_files(self._folder)}
        before, self._looked = (found if self._looked is None else self._looked), found
        for path in self.manifests.keys() - found.keys() - before.keys():
            del self.manifests[path], self._read[path]
        for path, signature in found.items():
            if before.get(path) == signature != self._read.get(path):
                self._take(path, signature)

    def _take(self, path: Path, signature: Signature) -> None:
        self._read[path] = signature
        try:
            self.manifests[path] = read_manifests(path)
        except InvalidManifest as error:
            self.manifests.setdefault(path, [])
            logger.error("%s: %s %s", path.name, error.code, error)  # noqa: TRY400 (the error says it all)


def _is_manifest(path: Path) -> bool:
    name = path.name
    return path.suffix in SUFFIXES and not name.endswith(STATUS_SUFFIX) and not name.startswith(".") and path.is_file()


def _signature(path: Path) -> Signature:
    try:
        stat = path.stat()
    except FileNotFoundError:  # taken away since it was listed: the next look does not find it
        return (0, 0, 0)
    return (stat.st_mtime_ns, stat.st_size, stat.st_ino)


class FolderResources:
    """The objects of one folder."""

    def __init__(
        self,
        folder: Path,
        *,
        cluster: str,
        write_status: bool,
        generations: Mapping[str, int],
        on_status: Callable[[Key, Mapping[str, Any]], None] | None = None,
    ) -> None:
        self._scan = FileScan(folder)
        self._writes_status = write_status
        self._on_status = on_status
        state_file = folder / STATE_FILE if write_status else None
        self._identities = Identities(cluster, file=state_file, generations=generations)
        self._entries: dict[Key, Entry] = {}
        self._was_read = False
        self._told: set[str] = set()

    def scan(self) -> Collection[Key]:
        """One look at the folder: the keys of objects that are new, changed or taken away."""
        self._scan.look()
        wanted = self._wanted()
        if not self._was_read:
            self._identities.forget_missing(wanted.keys())
        self._was_read = True
        changed = [key for key, (path, manifest) in wanted.items() if self._take(key, path, manifest)]
        taken_away = [key for key, entry in self._entries.items() if key not in wanted and entry.deletion_at is None]
        for key in taken_away:
            self._entries[key] = replace(self._entries[key], deletion_at=datetime.now(UTC))
        if changed:
            self._identities.save()
        return [*changed, *taken_away]

    def _wanted(self) -> dict[Key, tuple[Path, Manifest]]:
        wanted: dict[Key, tuple[Path, Manifest]] = {}
        for path, manifests in sorted(self._scan.manifests.items()):
            for manifest in manifests:
                first, _ = wanted.setdefault(manifest.key, (path, manifest))
                if first != path:
                    self._warn_once(f"{path.name}: {manifest.key} is in {first.name} already; that one counts")
        return wanted

    def _take(self, key: Key, path: Path, manifest: Manifest) -> bool:
        """Whether the object is new or changed; one that is being deleted must be gone before it can come back."""
        before = self._entries.get(key)
        if before is not None and before.deletion_at is not None:
            return False
        uid, generation = self._identities.see(key, manifest.spec)
        if before is not None and before.generation == generation and before.path == path:
            return False
        status = {} if before is None else before.status
        self._entries[key] = Entry(manifest=manifest, path=path, uid=uid, generation=generation, status=status)
        return True

    def serves(self, namespace: str) -> bool:
        """Whether objects of this namespace are served here: all are."""
        del namespace
        return True

    async def get(self, key: Key) -> Mapping[str, Any] | None:
        """The object's body as it stands now, None when there is none."""
        entry = self._entries.get(key)
        return None if entry is None else entry.body

    async def pages(self, kind: Kind) -> AsyncIterator[Sequence[Mapping[str, Any]]]:
        """All bodies of one kind, in one page."""
        yield [entry.body for key, entry in self._entries.items() if key.kind is kind]

    async def uids(self) -> Collection[str]:
        """Uids of all objects."""
        if not self._was_read:
            raise InvalidManifest("the folder was not read yet")
        return {entry.uid for entry in self._entries.values()}

    async def set_finalizers(self, meta: Meta, finalizers: Collection[str]) -> None:
        """Let an object go that was taken away."""
        entry = self._entry(meta)
        if FINALIZER not in finalizers:
            del self._entries[meta.key]
            self._identities.forget(meta.key)
            self._identities.save()
            self._write_statuses(entry.path)

    async def remove(self, meta: Meta) -> None:
        """Say that an object may go: files are their owner's, who takes it away."""
        file = self._entry(meta).path.name
        if meta.uid not in self._told:
            self._told.add(meta.uid)
            logger.info("%s: its time to live has passed; take it out of %s", meta.key, file)

    async def write_status(self, meta: Meta, live: Mapping[str, Any], desired: Mapping[str, Any]) -> None:
        """Make the status ``desired``."""
        del live  # one process writes here
        entry = self._entry(meta)
        self._entries[meta.key] = replace(entry, status=desired)
        if self._on_status is not None:
            self._on_status(meta.key, desired)
        self._write_statuses(entry.path)

    async def tell(self, notice: Notice) -> None:
        """Log an event, unless it was told before."""
        if notice.name not in self._told:
            self._told.add(notice.name)
            level = logging.WARNING if notice.type == "Warning" else logging.INFO
            logger.log(level, "%s: %s: %s", notice.about.key, notice.reason, notice.note)

    async def warn(self, reason: Reason, note: str) -> None:
        """Log it: a folder has nobody else to tell."""
        self._warn_once(f"{reason}: {note}")

    def bodies(self, kind: Kind) -> list[Mapping[str, Any]]:
        """The objects of a kind."""
        return [entry.body for key, entry in self._entries.items() if key.kind is kind]

    def _entry(self, meta: Meta) -> Entry:
        entry = self._entries.get(meta.key)
        if entry is None or entry.uid != meta.uid:
            raise ObjectGone(f"{meta.key} is gone")
        return entry

    def _write_statuses(self, path: Path) -> None:
        """One file beside each file of manifests, with the status of all its objects."""
        if not self._writes_status:
            return
        file = path.with_name(f"{path.stem}{STATUS_SUFFIX}")
        bodies = [entry.body for entry in self._entries.values() if entry.path == path]
        if bodies:
            write_whole(file, yaml.safe_dump_all([_without_spec(body) for body in bodies], sort_keys=False))
        else:
            file.unlink(missing_ok=True)

    def _warn_once(self, line: str) -> None:
        if line not in self._told:
            self._told.add(line)
            logger.warning("%s", line)


def _without_spec(body: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if name != "spec"}
