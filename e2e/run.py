"""Run the tests that need a real Kubernetes: `python e2e/run.py`, as root on Linux.

Invariant: everything slow or fetched happens before the sandbox is entered and only once: the second run starts its
tests in seconds. The exit code is pytest's, or 10 when the machine could not be prepared; then the last lines say why.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from cluster import build, cache, image, kept_releases, preconditions, sandbox
from cluster.kit import Kit
from cluster.processes import CommandError, output_of
from cluster.progress import Progress

_REPOSITORY = Path(__file__).resolve().parents[1]
# One cluster each: the chart brings its own operator for all namespaces.
_SESSIONS = (("operator", "pods"), ("chart",))
_TIERS = [tier for session in _SESSIONS for tier in session]
_UNPREPARED = 10
# pytest's folders, where the cluster logs to, stay on disk; it keeps those of the last three runs.
_LOGS_OUTLIVE_THE_SANDBOX = {"PYTEST_DEBUG_TEMPROOT": tempfile.gettempdir()}


def main() -> int:
    options, pytest_arguments = _parser().parse_known_args()
    tiers = [options.only] if options.only else [*_TIERS]
    progress = Progress()
    try:
        with cache.locked():
            cache.sweep()
            sessions = _prepare(options, progress, tiers)
    except (preconditions.UnpreparedError, CommandError) as error:
        progress.say(f"cannot run:\n{error}")
        return _UNPREPARED
    if options.prepare_only:
        return 0
    return max(
        sandbox.enter(
            [sys.executable, "-m", "pytest", *(f"e2e/{tier}" for tier in session), *pytest_arguments],
            working_directory=_REPOSITORY,
            env={**kit.to_environment(), **_LOGS_OUTLIVE_THE_SANDBOX},
        )
        for session, kit in sessions
    )


def _prepare(options: argparse.Namespace, progress: Progress, tiers: list[str]) -> list[tuple[list[str], Kit]]:
    """The sessions, and what each of them has."""
    pods = tiers != ["operator"]
    preconditions.ensure(progress, cache.folder() / "install.log", pods=pods, install=not options.no_install)
    binaries, helm = build.binaries(progress), _helm()
    sessions = [[tier for tier in session if tier in tiers] for session in _SESSIONS]
    return [
        (session, Kit(binaries=binaries, helm=helm, images=_images(options, progress, session)))
        for session in sessions
        if session
    ]


def _images(options: argparse.Namespace, progress: Progress, session: list[str]) -> tuple[Path, ...]:
    """What the session's nodes load."""
    if session == ["operator"]:
        return ()
    project = options.image or image.project(_REPOSITORY, progress)
    if "chart" not in session:
        return image.pause(progress), project
    users = image.of_user(_REPOSITORY, project, progress)
    return image.pause(progress), project, users, image.of_release(kept_releases.previous(), project, progress)


def _helm() -> Path:
    """As for `make test`, whose package of helpers has the name of ours."""
    env = {**os.environ, "PYTHONPATH": str(_REPOSITORY / "tests")}
    return Path(output_of([sys.executable, "-m", "support.helm"], env=env, timeout_seconds=300).strip())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python e2e/run.py",
        description="Build Kubernetes and the project's image if they are not in the cache, then run the tests of "
        "e2e/operator (an API server), e2e/pods and e2e/chart (real pods) in namespaces that vanish with them.",
        epilog=f"Everything else goes to pytest, for example: -k node -x. Builds are kept in {cache.folder()}.",
        allow_abbrev=False,
    )
    parser.add_argument("--only", choices=_TIERS, help="run one tier; operator needs neither containers nor an image")
    parser.add_argument("--prepare-only", action="store_true", help="install and build what is missing, run no test")
    parser.add_argument("--no-install", action="store_true", help="say which Debian packages are missing, install none")
    parser.add_argument(
        "--image", type=Path, metavar="ARCHIVE", help="test this archive of the project's image instead of building one"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
