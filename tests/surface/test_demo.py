"""``pgscheduler demo`` from end to end, without a terminal; and that nothing of it is left."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.paths import ROOT
from support.waiting import PATIENCE, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.commands import RunCommand, StartCommand

EXAMPLES = ROOT / "examples"
MARK = "SURFACE_TEST"


@pytest.fixture
def mark() -> dict[str, str]:
    """A variable that every process of the command inherits, to find them by."""
    return {MARK: uuid.uuid4().hex}


def processes_with(mark: dict[str, str]) -> list[str]:
    """The command lines of living processes that carry the mark."""
    wanted = f"{MARK}={mark[MARK]}"
    if not Path("/proc/self/environ").exists():
        listing = subprocess.run(["/bin/ps", "axwwE", "-o", "command="], capture_output=True, text=True, check=True)
        return [line for line in listing.stdout.splitlines() if wanted in line]
    return [found for process in Path("/proc").glob("[0-9]*") if (found := _command_if(process, wanted.encode()))]


def _command_if(process: Path, wanted: bytes) -> str:
    try:
        if wanted not in (process / "environ").read_bytes():
            return ""
        return (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def write_demo(folder: Path, *, task: str = "pgscheduler.ping", app: str = "async def noted(): ...\n") -> Path:
    """A folder of one one-off job beside an app."""
    (folder / "tasks.py").write_text(app)
    (folder / "manifests").mkdir()
    manifest = (EXAMPLES / "manifests" / "hello.yaml").read_text().replace("pgscheduler.ping", task)
    (folder / "manifests" / "one.yaml").write_text(manifest)
    return folder / "manifests"


def test_demo_of_the_examples_runs_and_leaves_nothing(pgscheduler: RunCommand, mark: dict[str, str]) -> None:
    ended = pgscheduler("demo", str(EXAMPLES / "manifests"), env=mark, timeout=100)

    assert ended.exit_code == 0, ended
    summary = re.search(
        r"^jobs run (\d+), failed 0, first job seen running after (\d+\.\d) s$", ended.out, re.MULTILINE
    )
    assert summary is not None, ended.out
    assert int(summary[1]) >= 5
    assert float(summary[2]) <= 20
    assert "missing" not in ended.out
    assert re.search(r"scheduledjob/hello +Complete +runs 1 +worker [0-9a-f]{8}", ended.out)
    assert re.search(r"periodicjob/disk-space +Complete +runs 3", ended.out)
    assert re.search(r"periodicjob/nightly-report +Ready +runs 0 +next 20\d\d-\d\d-\d\dT02:30:00\+00:00", ended.out)
    assert "78498 primes below 1000000" in ended.err
    assert "\t" not in ended.out
    assert "\x1b" not in ended.out + ended.err
    assert processes_with(mark) == []


def test_demo_of_an_unknown_task_says_so_and_ends(
    pgscheduler: RunCommand, mark: dict[str, str], tmp_path: Path
) -> None:
    folder = write_demo(tmp_path, task="nobody.knows.it")

    ended = pgscheduler("demo", str(folder), "--workers", "1", env=mark)

    assert ended.exit_code == 1
    assert ended.out.splitlines()[-2:] == [
        "jobs run 0, failed 0, no job seen running",
        "missing: scheduledjob/hello waits: no worker knows the task nobody.knows.it",
    ]
    assert processes_with(mark) == []


def test_demo_ends_when_its_workers_have_died(pgscheduler: RunCommand, mark: dict[str, str], tmp_path: Path) -> None:
    folder = write_demo(tmp_path, app="import not_installed_here\n")

    ended = pgscheduler("demo", str(folder), env=mark)

    assert ended.exit_code == 1
    assert "worker 1 ended with 2" in ended.err
    assert "No module named 'not_installed_here'" in ended.err
    assert "missing: scheduledjob/hello" in ended.out
    assert processes_with(mark) == []


def test_demo_ends_at_its_timeout_and_names_what_is_missing(
    pgscheduler: RunCommand, mark: dict[str, str], tmp_path: Path
) -> None:
    app = (
        "import asyncio\nfrom pg_scheduler import task\n@task(name='slow')\nasync def slow(): await asyncio.sleep(60)\n"
    )
    folder = write_demo(tmp_path, task="slow", app=app)

    ended = pgscheduler("demo", str(folder), "--timeout", "1", "--workers", "1", env=mark, timeout=100)

    assert ended.exit_code == 1
    assert re.search(r"^jobs run 0, failed 0, first job seen running after", ended.out, re.MULTILINE)
    assert "missing: scheduledjob/hello is Running, not Complete" in ended.out
    assert processes_with(mark) == []


@pytest.mark.parametrize(
    ("number", "expected"), [(signal.SIGINT, 130), (signal.SIGTERM, 130), (signal.SIGKILL, -signal.SIGKILL)]
)
async def test_demo_that_is_ended_early_leaves_nothing(
    start_pgscheduler: StartCommand, mark: dict[str, str], tmp_path: Path, number: signal.Signals, expected: int
) -> None:
    folder = write_demo(tmp_path)
    every_15_s = (
        (EXAMPLES / "manifests" / "disk-space.yaml").read_text().replace("intervalSeconds: 3", "intervalSeconds: 15")
    )
    (folder / "often.yaml").write_text(every_15_s.replace("examples.disk_space", "pgscheduler.ping"))
    demo = start_pgscheduler("demo", str(folder), env=mark)
    await until(lambda: "Ready" in demo.out)
    assert len(processes_with(mark)) > 3

    demo.process.send_signal(number)

    assert demo.wait() == expected
    await until(lambda: not processes_with(mark), what="every process of the demo has ended")


class OnTerminal:
    """A demo on a terminal of its own; ``ours`` is the other end."""

    def __init__(self, folder: Path, env: dict[str, str]) -> None:
        self.ours, self.terminal = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pg_scheduler", "demo", str(folder)],
            stdin=self.terminal,
            stdout=self.terminal,
            stderr=subprocess.DEVNULL,
            env=env | {"TERM": "xterm", "COLUMNS": "120", "LINES": "40"},
        )

    def shows(self, text: str) -> str:
        """All that it shows until it shows ``text``."""
        shown, deadline = "", time.monotonic() + PATIENCE
        while text not in shown:
            assert time.monotonic() < deadline, shown
            if select.select([self.ours], [], [], 1)[0]:
                shown += os.read(self.ours, 65536).decode(errors="replace")
        return shown


@pytest.fixture
def on_terminal(clean_env: dict[str, str], mark: dict[str, str], tmp_path: Path) -> Iterator[OnTerminal]:
    """The demo of one job, on a terminal."""
    demo = OnTerminal(write_demo(tmp_path), clean_env | mark)
    yield demo
    demo.process.kill()
    demo.process.wait()
    for descriptor in (demo.ours, demo.terminal):
        with suppress(OSError):
            os.close(descriptor)


def test_demo_on_a_terminal_shows_a_table_until_q_and_gives_the_terminal_back(
    on_terminal: OnTerminal, mark: dict[str, str]
) -> None:
    before = termios.tcgetattr(on_terminal.terminal)
    shown = on_terminal.shows("Complete")

    os.write(on_terminal.ours, b"q")

    on_terminal.shows("jobs run 1, failed 0, first job seen running after")
    assert on_terminal.process.wait(20) == 0
    assert "q quits" in shown
    assert "hello" in shown
    assert termios.tcgetattr(on_terminal.terminal) == before
    assert processes_with(mark) == []


def test_demo_ends_when_its_terminal_is_gone(on_terminal: OnTerminal, mark: dict[str, str]) -> None:
    on_terminal.shows("Complete")

    os.close(on_terminal.terminal)
    os.close(on_terminal.ours)

    on_terminal.process.wait(20)
    assert processes_with(mark) == []


@pytest.mark.parametrize(
    ("files", "code", "said"),
    [
        ({}, "PGS-041", "no manifests of ours"),
        ({"a.yaml": "kind: [\n"}, "PGS-041", "the file is no valid YAML"),
        ({"a.yaml": "kind: ScheduledJob\n"}, "PGS-041", "an object has no apiVersion"),
    ],
)
def test_wrong_manifest_is_one_clear_error(
    pgscheduler: RunCommand, tmp_path: Path, files: dict[str, str], code: str, said: str
) -> None:
    (tmp_path / "tasks.py").write_text("async def noted(): ...\n")
    (tmp_path / "manifests").mkdir()
    for name, text in files.items():
        (tmp_path / "manifests" / name).write_text(text)

    ended = pgscheduler("demo", "manifests")

    block = ended.require_block(code, exit_code=2)
    assert said in block
    assert all(name in block for name in files)


@pytest.mark.parametrize("name", ["bad-cron", "bad-zone", "cron-and-interval"])
def test_refused_manifest_is_named(pgscheduler: RunCommand, tmp_path: Path, name: str) -> None:
    (tmp_path / "tasks.py").write_text("async def noted(): ...\n")
    (tmp_path / "manifests").mkdir()
    (tmp_path / "manifests" / "a.yaml").write_text((EXAMPLES / "invalid" / f"{name}.yaml").read_text())

    ended = pgscheduler("demo", "manifests", "--workers", "1")

    assert ended.exit_code == 1
    assert f"missing: periodicjob/{name} was refused: " in ended.out
    assert "Traceback" not in ended.err


def test_demo_without_app_is_wrong_usage(pgscheduler: RunCommand, tmp_path: Path) -> None:
    (tmp_path / "manifests").mkdir()

    ended = pgscheduler("demo", "manifests")

    assert ended.exit_code == 2
    assert "name the file of the tasks with --app" in ended.err


def test_demo_without_postgres_programs_exits_3(pgscheduler: RunCommand, tmp_path: Path) -> None:
    ended = pgscheduler("demo", str(write_demo(tmp_path)), env={"PGSCHEDULER_PG_BIN": str(tmp_path)})

    assert "PGSCHEDULER_PG_BIN is" in ended.require_block("PGS-010", exit_code=3)


def test_examples_are_found_from_the_package() -> None:
    script = "from pg_scheduler_operator.cli import examples as e; print(e.app_beside(e.manifests()))"

    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.strip()

    assert Path(found).samefile(EXAMPLES / "tasks.py")
