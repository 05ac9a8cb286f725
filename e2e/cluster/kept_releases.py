"""Releases as they were: the wheels and charts that are kept under tests/fixtures/releases."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePath

_REPOSITORY = Path(__file__).resolve().parents[2]
_KEPT = _REPOSITORY / "tests" / "fixtures" / "releases"
_FOLDERS = {"pg_scheduler": "worker", "pg_scheduler_operator": "operator"}
RELEASES_REPOSITORY = "registry.example.com/pgscheduler"
"""Where images of earlier releases are; not where the present one is, whose version is theirs until it is released."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptRelease:
    """One release: `version` is that of wheel, chart and image."""

    version: str
    wheel: Path
    chart: Path

    @property
    def image(self) -> str:
        """The name that nodes know it by."""
        return f"{RELEASES_REPOSITORY}:{self.version}"


def previous() -> KeptRelease:
    """The newest release that is kept and is not the tree itself: on the day of a release, the one before."""
    charts = sorted(_KEPT.glob("*/*.tgz"), key=lambda chart: _numbers(chart.parent.name))
    kept = [_beside(chart) for chart in charts]
    return next(one for one in reversed(kept) if not _is_the_tree(one.wheel))


def _beside(chart: Path) -> KeptRelease:
    (wheel,) = chart.parent.glob("*.whl")
    return KeptRelease(version=chart.parent.name, wheel=wheel, chart=chart)


def _numbers(version: str) -> list[int]:
    return [int(number) for number in version.split(".")]


def _is_the_tree(wheel: Path) -> bool:
    with zipfile.ZipFile(wheel) as archive:
        modules = [name for name in archive.namelist() if name.endswith((".py", ".sql")) and "/examples/" not in name]
        return all(_in_tree(name) == archive.read(name) for name in modules)


def _in_tree(name: str) -> bytes | None:
    path = _REPOSITORY / _FOLDERS[PurePath(name).parts[0]] / name
    return path.read_bytes() if path.exists() else None
