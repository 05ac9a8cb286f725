"""The gate's question for known vulnerabilities: a finding fails, no answer is said aloud."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from support.paths import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Audit = Callable[..., subprocess.CompletedProcess[str]]

_CLEAN = {"name": "click", "version": "8.1.7", "vulns": []}
_VULNERABLE = {"name": "urllib3", "version": "1.26.4", "vulns": [{"id": "PYSEC-2021-108"}]}
_SKIPPED = {"name": "click", "skip_reason": "Dependency not found on PyPI: click (8.1.7)"}


@pytest.fixture
def audit(tmp_path: Path) -> Audit:
    """The script with a pip-audit that answers so: to the first question, to the others."""

    def run(first: object, later: object = None) -> subprocess.CompletedProcess[str]:
        stub = tmp_path / "pip-audit"
        answers = [first and json.dumps({"dependencies": [first]}), later and json.dumps({"dependencies": [later]})]
        stub.write_text(
            f"#!{sys.executable}\nimport sys\n"
            f"answer = {answers!r}['--require-hashes' in sys.argv]\n"
            "sys.exit('cannot connect') if answer is None else print(answer)\n"
        )
        stub.chmod(0o755)
        command = [sys.executable, str(ROOT / ".ci" / "audit.py"), str(stub)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    return run


def test_finding_fails_and_is_named(audit: Audit) -> None:
    ended = audit(_CLEAN, _VULNERABLE)

    assert ended.returncode == 1
    assert "audit: urllib3 1.26.4: PYSEC-2021-108\n" in ended.stdout


def test_clean_packages_pass_and_those_unknown_are_named(audit: Audit) -> None:
    ended = audit(_CLEAN, _SKIPPED)

    assert ended.returncode == 0
    assert "audit: not looked at: Dependency not found on PyPI: click (8.1.7)\n" in ended.stdout
    assert "audit: 2 packages, 0 of them with known vulnerabilities\n" in ended.stdout


@pytest.mark.parametrize(
    ("first", "why"), [(None, "cannot connect"), (_SKIPPED, "Dependency not found on PyPI: click (8.1.7)")]
)
def test_no_answer_is_said_and_fails_nothing(audit: Audit, first: object, why: str) -> None:
    ended = audit(first)

    assert ended.returncode == 0
    assert ended.stdout == f"audit: NOT DONE, PyPI does not tell what is vulnerable: {why}\n"
