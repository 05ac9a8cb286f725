"""One namespace, the database that serves it, and how a test speaks of both.

Invariant: people's side is kubectl's: what a test does to objects, waits for and shows it does with the commands that
the documentation gives; only looking at one costs no process. The database is only read, and only to show what no
status tells.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TypeVar

from cluster.waiting import wait_for
from support.addresses import path_of
from support.ledger import Ledger
from support.sizes import sized

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import asyncpg

    from cluster.cluster import Cluster, Manifest
    from cluster.postgres import Database
    from support.programs import Programs

T = TypeVar("T")

SOON_SECONDS = sized(40, full=10)
"""What the design promises a user: accepted, cancelled, released, run; in full on a machine of its own."""
NAMESPACE_ENDS_SECONDS = sized(90, full=30)
"""With its objects, be the database there or not; the design's figure wants a machine of its own."""


class Tenant:
    """`name` is the namespace, and in the database the tenant."""

    def __init__(self, cluster: Cluster, name: str, database: Database, *programs: Programs) -> None:
        self.cluster = cluster
        self.name = name
        self.database = database
        self._programs = programs
        self.ledger = Ledger(database, name)

    def kubectl(self, *arguments: str, timeout_seconds: float = 60) -> str:
        __tracebackhide__ = True
        return self.cluster.kubectl("--namespace", self.name, *arguments, timeout_seconds=timeout_seconds)

    def apply(self, *manifests: Manifest) -> None:
        __tracebackhide__ = True
        self.cluster.apply(manifests[0] if len(manifests) == 1 else manifests, namespace=self.name)

    def apply_file(self, path: Path) -> None:
        """A file or a folder."""
        __tracebackhide__ = True
        self.kubectl("apply", "--filename", str(path))

    def patch(self, which: str, **spec: Any) -> None:
        """Change fields of a spec. None takes one away."""
        __tracebackhide__ = True
        self.kubectl("patch", which, "--type=merge", "--patch", json.dumps({"spec": spec}))

    def delete(self, which: str, *, timeout_seconds: float = SOON_SECONDS) -> None:
        """Returns when it is gone."""
        __tracebackhide__ = True
        self.kubectl("delete", which, f"--timeout={timeout_seconds}s")

    def wait_for(self, which: str, signal: str, *, timeout_seconds: float = SOON_SECONDS) -> None:
        """`kubectl wait`: signal is "condition=Complete" or "jsonpath={…}=…"; which may be "sjob --all"."""
        __tracebackhide__ = True
        self.kubectl("wait", *which.split(), f"--for={signal}", f"--timeout={timeout_seconds}s")
        self.check()

    def wait(self, what: str, probe: Callable[[], T], *, timeout_seconds: float = SOON_SECONDS) -> T:
        """The first true answer; ends early when the cluster or a program has died by itself."""
        __tracebackhide__ = True
        return wait_for(what, probe, timeout_seconds=timeout_seconds, check=self.check)

    def check(self) -> None:
        self.cluster.check()
        for programs in self._programs:
            programs.check()

    def get(self, which: str) -> Manifest:
        """It must be there."""
        found = self.cluster.api.get(path_of(self.name, *which.split("/")))
        assert found is not None, f"there is no {which}"
        return found

    def condition(self, which: str, name: str) -> Manifest:
        """A condition of an object, empty if it has none such."""
        conditions = self.get(which).get("status", {}).get("conditions", [])
        return next((condition for condition in conditions if condition["type"] == name), {})

    def table(self, kind: str) -> dict[str, dict[str, str]]:
        """What a plain `kubectl get` prints: name → column → cell."""
        header, *lines = self.kubectl("get", kind).splitlines()
        starts = [header.index(column) for column in header.split()]
        cuts = [slice(start, end) for start, end in zip(starts, [*starts[1:], None], strict=True)]
        columns = header.split()[1:]
        return {
            cells[0]: dict(zip(columns, cells[1:], strict=True))
            for cells in ([line[cut].strip() for cut in cuts] for line in lines)
        }

    def rows(self, name: str) -> list[asyncpg.Record]:
        """The rows of the jobs of an object, by the planned time."""
        return self.database.fetch(
            "SELECT j.* FROM scheduled_jobs j LEFT JOIN scheduler_schedules s ON s.id = j.schedule_id"
            " WHERE j.tenant = $1 AND coalesce(s.source_name, j.source_name) = $2 ORDER BY j.execution_time",
            self.name,
            name,
        )

    def row(self, name: str) -> asyncpg.Record:
        """The row of a ScheduledJob, which has exactly one."""
        (row,) = self.rows(name)
        return row

    def schedules(self) -> list[str]:
        """The names of those in the table."""
        found = self.database.fetch("SELECT source_name FROM scheduler_schedules WHERE tenant = $1", self.name)
        return sorted(row["source_name"] for row in found)
