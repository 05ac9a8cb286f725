"""The examples of the library, as people run them: each on a PostgreSQL of its own, to its end."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from support.paths import ROOT

EXAMPLES = ROOT / "examples" / "library"
PRINTED = {
    "bulk": ["5000 jobs, and 0 more", "remind-7 is pending"],
    "charge": ["captured order 4711, key 36 characters", "receipt for order 4711", "paid: True"],
    "concurrency_key": ["6 jobs ran, at most 2 at a time"],
    "queue_pause": ["text is sent", "mail is paused: the mail server is down", "mail is sent"],
    "results": ["{'order': 1, 'cents': 1190}", "an order cannot cost less than nothing (attempt 1)"],
    "schedules": [
        "report-acme: Every second",
        "report of acme: its first",
        "report of acme: 0:00:01 after the last",
        "accounted for: True",
    ],
    "sync_functions": ["3 pages printed", "2cf24dba, in another process: True"],
}


@pytest.mark.parametrize("name", PRINTED)
def test_library_example_runs(name: str) -> None:
    ran = subprocess.run(
        [sys.executable, EXAMPLES / f"{name}.py"], capture_output=True, text=True, check=False, timeout=120
    )

    assert (ran.returncode, ran.stdout.splitlines()) == (0, PRINTED[name]), ran.stderr


def test_every_library_example_is_run_and_short() -> None:
    lines = {path.stem: len(re.findall(r"^.*\S", path.read_text(), re.MULTILINE)) for path in EXAMPLES.glob("*.py")}

    assert set(lines) == set(PRINTED)
    assert [name for name, count in lines.items() if count > 40] == []
