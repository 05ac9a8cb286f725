"""Workers as processes, to be stopped, frozen and killed, and the record of what their jobs did."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from engine.conftest import _ends_what_it_started, started, world
from faults import fault_tasks
from support.commands import Running
from support.world import World, new_job

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pg_scheduler import Scheduler

__all__ = ["_ends_what_it_started", "started", "world"]

APP = Path(fault_tasks.__file__)


@dataclass(frozen=True, slots=True)
class Record:
    """The lines that tasks wrote."""

    path: Path

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.path.read_text().splitlines()] if self.path.exists() else []

    def names(self, event: str) -> list[str]:
        return [line["name"] for line in self.events() if line["event"] == event]


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Record:
    """Where tasks note what they do, in this process and in those that it starts."""
    path = tmp_path / "record"
    monkeypatch.setenv(fault_tasks.RECORD, str(path))
    return Record(path)


@pytest.fixture
def start_process(record: Record, dsn: str) -> Iterator[Callable[..., Running]]:
    """``start_process("--lease", "2")`` is a worker of the command line with the harmful tasks; killed at the end.

    Or another program; what has a name goes into its environment.
    """
    begun: list[Running] = []

    def start(*arguments: str, program: tuple[str, ...] | None = None, **environment: str) -> Running:
        command = program or ("-m", "pg_scheduler", "worker", str(APP), *arguments)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PGSCHEDULER_", "PG"))}
        process = subprocess.Popen(
            [sys.executable, *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=kept | {"PGSCHEDULER_DSN": dsn, fault_tasks.RECORD: str(record.path)} | environment,
        )
        begun.append(Running(process))
        return begun[-1]

    yield start
    for running in begun:
        running.process.kill()
        running.wait()


STARTED = re.compile(r"worker (\S+) started with")


async def id_of(worker: Running) -> str:
    """The name of the worker of a process, once it has started."""
    await worker.says("started with")
    found = STARTED.search(worker.err)
    assert found
    return found[1]


async def submit(world: World, task: str, *args: object, **changes: Any) -> str:
    """A job of a harmful task, due long ago unless said otherwise; its id is its name."""
    name = str(args[0])
    payload = json.dumps({"args": list(args), "kwargs": {}})
    job = new_job(**{"job_id": name, "task": f"fault_tasks:{task}", "job_name": task, "task_data": payload} | changes)
    assert await world.jobs.insert(job)
    return name


def as_if_it_had_beaten_for_a_lease(scheduler: Scheduler) -> None:
    """A worker that has lived for some time may sweep at once; a test does not wait a minute for that."""
    assert scheduler._worker.engine is not None
    lease = scheduler._worker.engine.lease
    assert lease._unbroken_since is not None
    lease._unbroken_since -= lease.seconds
