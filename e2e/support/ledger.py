"""What the tasks of `ledger_tasks` did, as the test reads it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cluster.postgres import Database

TASKS_FILE = Path(__file__).with_name("ledger_tasks.py")
_TABLES = """
CREATE TABLE IF NOT EXISTS ledger_runs (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant text, label text, host text, has_ended boolean DEFAULT false);
CREATE TABLE IF NOT EXISTS ledger_releases (tenant text, label text)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One start of a task. `host`: of the worker, in Kubernetes the pod's name."""

    label: str
    host: str
    has_ended: bool


class Ledger:
    """The trace of one tenant's tasks. Labels are the names of the objects, if the test says nothing else."""

    def __init__(self, database: Database, tenant: str) -> None:
        self._database = database
        self._tenant = tenant
        database.execute(_TABLES)

    def runs(self, label: str) -> list[Run]:
        """The runs under a label, oldest first."""
        return [run for run in self.all_runs() if run.label == label]

    def all_runs(self) -> list[Run]:
        rows = self._database.fetch(
            "SELECT label, host, has_ended FROM ledger_runs WHERE tenant = $1 ORDER BY id", self._tenant
        )
        return [Run(**dict(row)) for row in rows]

    def release(self, label: str) -> None:
        """Let `e2e.hold` end."""
        self._database.fetch("INSERT INTO ledger_releases VALUES ($1, $2)", self._tenant, label)
