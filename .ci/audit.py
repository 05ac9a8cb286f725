"""What is known to be wrong with the locked packages: `python .ci/audit.py .venv/bin/pip-audit`.

A finding fails. Where PyPI's data cannot be had, without a network or behind a mirror that passes on packages alone,
nothing fails and a line says why: pip-audit itself would call the latter "no known vulnerabilities".
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

_REQUIREMENTS = Path(__file__).parents[1] / "requirements"
_LOCKED = [_REQUIREMENTS / name for name in ("dev.txt", "sbom.txt")]  # of which all others are parts

Package = dict[str, Any]


class NoAnswerError(Exception):
    """PyPI was not reached, or did not tell."""


def main() -> int:
    command = sys.argv[1]
    try:
        _ask_for_one(command)
        packages = [package for file in _LOCKED for package in _ask(command, "--require-hashes", file)]
    except NoAnswerError as error:
        print(f"audit: NOT DONE, PyPI does not tell what is vulnerable: {error}")
        return 0
    return _report(packages)


def _ask_for_one(command: str) -> None:
    """Whether there is anything to ask, before two hundred questions."""
    pinned = re.findall(r"^[\w.-]+==[\w.]+", _LOCKED[0].read_text(), re.MULTILINE)
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write(pinned[0])
        file.flush()
        (package,) = _ask(command, "--no-deps", Path(file.name))
    if "skip_reason" in package:
        raise NoAnswerError(package["skip_reason"])


def _ask(command: str, how: str, file: Path) -> list[Package]:
    asked = [command, "--format=json", "--progress-spinner=off", "--disable-pip", how, "--requirement", str(file)]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)  # noqa: S603 - the gate's own program
    if not done.stdout.strip():  # with findings or without, it prints what it asked for
        raise NoAnswerError((done.stderr.strip() or "pip-audit ended without a word").splitlines()[-1])
    packages: list[Package] = json.loads(done.stdout)["dependencies"]
    return packages


def _report(packages: list[Package]) -> int:
    vulnerable = [package for package in packages if package.get("vulns")]
    for package in vulnerable:
        print(f"audit: {package['name']} {package['version']}: {', '.join(one['id'] for one in package['vulns'])}")
    for package in packages:
        if "skip_reason" in package:
            print(f"audit: not looked at: {package['skip_reason']}")
    print(f"audit: {len(packages)} packages, {len(vulnerable)} of them with known vulnerabilities")
    return 1 if vulnerable else 0


if __name__ == "__main__":
    sys.exit(main())
