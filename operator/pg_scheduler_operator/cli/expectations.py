"""What a demo of a folder waits for, read from its manifests.

Invariant: only what can happen within the demo's time is waited for; the rest is shown.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from pg_scheduler_operator.cli.board import Expectation
from pg_scheduler_operator.errors import InvalidManifest
from pg_scheduler_operator.gateway.files import STATUS_SUFFIX, SUFFIXES
from pg_scheduler_operator.gateway.manifests import read_manifests
from pg_scheduler_operator.resources import Key, Kind

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from pg_scheduler_operator.gateway.manifests import Manifest

PERIODIC_RUNS = 3


def expectations_in(folder: Path, *, within_seconds: float) -> Mapping[Key, Expectation]:
    """For each manifest of the folder, how many runs can be waited for.

    Raises:
        InvalidManifest: a file cannot be read, or the folder holds no manifest.
    """
    now = datetime.now(UTC)
    expectations = {manifest.key: _expectation(manifest, now, within_seconds) for manifest in _manifests(folder)}
    if not expectations:
        raise InvalidManifest(f"no manifests of ours in {folder}", fix="name a folder with *.yaml files of our kinds")
    return expectations


def _manifests(folder: Path) -> Iterator[Manifest]:
    for path in sorted(folder.iterdir()):
        if path.suffix in SUFFIXES and not path.name.endswith(STATUS_SUFFIX) and not path.name.startswith("."):
            try:
                yield from read_manifests(path)
            except InvalidManifest as error:
                error.add_note(f"file: {path}")
                raise


def _expectation(manifest: Manifest, now: datetime, within_seconds: float) -> Expectation:
    spec = manifest.spec if isinstance(manifest.spec, dict) else {}
    template = spec.get("template", spec.get("jobTemplate"))
    task = template.get("spec", {}).get("task", "") if isinstance(template, dict) else ""
    return Expectation(runs=_runs(manifest.key.kind, spec, now, within_seconds), task=str(task))


def _runs(kind: Kind, spec: Mapping[str, Any], now: datetime, within_seconds: float) -> int:
    if spec.get("suspend") or spec.get("cancel"):
        return 0
    match kind:
        case Kind.SCHEDULED_JOB:
            return int(_is_due(spec.get("runAt"), now + timedelta(seconds=within_seconds)))
        case Kind.PERIODIC_JOB:
            return PERIODIC_RUNS if _is_short(spec.get("schedule"), within_seconds) else 0
        case Kind.WORKER_POOL:
            return 0


def _is_due(run_at: Any, by: datetime) -> bool:
    """Whether the job can run by then; an instant that cannot be read is for the reconciler to refuse."""
    try:
        return not isinstance(run_at, str) or datetime.fromisoformat(run_at.upper()) < by
    except (TypeError, ValueError):
        return True


def _is_short(schedule: Any, within_seconds: float) -> bool:
    interval = schedule.get("intervalSeconds") if isinstance(schedule, dict) else None
    return isinstance(interval, int) and (PERIODIC_RUNS + 1) * interval <= within_seconds
