"""Until when each worker may not be given up, reckoned from its beats alone, and the judge of who does it.

Invariants (design page 2 §2.4): a worker is marked dead only when the lease of its last beat has run out, or its grace
after a suspicion; suspected is only who has no backend any more, over one start of the server, and it loses nothing but
time; who beats again in time is as good as before.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from support.changes import require

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from support.changes import Change
    from support.parked import Call, HeartBackend, VirtualServer

TOUCHES_WORKERS = {"register_worker", "beat", "suspect_workers", "mark_dead", "retire_worker"}


@dataclass(slots=True)
class Vital:
    """What a worker's beats say of it; ``backend`` is the newest over which one came."""

    safe_until: datetime
    backend: HeartBackend


@dataclass(slots=True)
class Workers:
    """Every worker that has registered."""

    server: VirtualServer
    lease: timedelta
    grace: timedelta
    vitals: dict[str, Vital] = field(default_factory=dict)

    def judge(self, call: Call, change: Change) -> None:
        require(call.name in TOUCHES_WORKERS, f"{call.name} changes a worker")
        require(change.old_status != "dead" or call.name == "retire_worker", "a worker that was marked dead is touched")
        if call.name in {"register_worker", "beat"}:
            self._beaten(call, change)
        elif call.name == "suspect_workers":
            self._judge_server(call.values[2])
            self._judge_suspicion(change)
        elif call.name == "mark_dead":
            self._judge_server(call.values[0])
            require(self.vitals[change.id].safe_until < change.at, "I4 marked dead within its lease")

    def _beaten(self, call: Call, change: Change) -> None:
        require(change.new_lease == change.at + self.lease, "a beat does not renew the lease")
        if call.heart is None:
            raise AssertionError("a heartbeat has a connection")
        known = self.vitals.get(change.id)
        newest = call.heart if known is None else max(call.heart, known.backend, key=lambda backend: backend.number)
        self.vitals[change.id] = Vital(change.at + self.lease, newest)

    def _judge_server(self, start: datetime | None) -> None:
        """Who judges has beaten since the server started: after a restart everybody looks gone."""
        require(start is not None and start.timestamp() == self.server.start, "others are judged over a restart")

    def _judge_suspicion(self, change: Change) -> None:
        vital = self.vitals[change.id]
        require(not self.server.has(vital.backend), f"{change.id} is suspected, and its heartbeat is connected")
        require(change.new_status == "alive", "suspicion takes more than time")
        vital.safe_until = min(vital.safe_until, change.at + self.grace)
        require(change.new_lease == vital.safe_until, f"a suspect has until {vital.safe_until}, not {change.new_lease}")
