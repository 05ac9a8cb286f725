"""What became of many jobs while workers were killed, told twice, and the judge who compares the two.

Invariant: the tellers know nothing of each other. A trigger writes each change of a status into the database, in the
transaction that makes it; the tasks write their starts and ends to a file that outlives them. Both say when by the same
machine's clock. The judge holds them to design page 7 §7.1: I1 no lost job, I2 one outcome, I3 fence, I4 lease, I5 not
early.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import asyncpg

T = TypeVar("T")

INSTALL = """
CREATE TABLE status_history (
    seq bigint GENERATED ALWAYS AS IDENTITY, job_id text, was text, became text, token bigint, worker_id text,
    due float8, holder_lives bool, at float8 DEFAULT extract(epoch FROM clock_timestamp()));

CREATE FUNCTION note_status() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO status_history (job_id, was, became, token, worker_id, due, holder_lives)
    VALUES (NEW.job_id, OLD.status, NEW.status, NEW.token, coalesce(NEW.worker_id, OLD.worker_id),
            extract(epoch FROM NEW.execution_time),
            (SELECT lease_until > scheduler_now() FROM scheduler_workers
             WHERE id = coalesce(OLD.worker_id, NEW.worker_id)));
    RETURN NULL;
END $$;
CREATE TRIGGER note_status AFTER UPDATE OF status ON scheduled_jobs
    FOR EACH ROW WHEN (OLD.status <> NEW.status) EXECUTE FUNCTION note_status();
"""
FINAL = frozenset({"completed", "failed", "cancelled", "expired"})


class Change(NamedTuple):
    """One job's change of status; the columns of ``status_history``."""

    seq: int
    job_id: str
    was: str
    became: str
    token: int
    worker_id: str
    due: float
    holder_lives: bool | None
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Histories:
    """Both, once all is over.

    Attributes:
        acknowledged: every job whose submission returned.
        changes: the database's history, in order.
        events: the tasks' own; ``name`` is the job, ``event`` start or end, ``token`` that of the claim.
    """

    acknowledged: list[str]
    changes: list[Change]
    events: list[dict[str, Any]]

    def broken(self) -> dict[str, list[Any]]:
        """What does not hold, and for which jobs."""
        checks: dict[str, list[Any]] = {
            "I1 lost": self._lost(),
            "I2 two outcomes": self._ended_twice(),
            "I2 two starts of one claim": self._started_twice(),
            "I3 the outcome of another claim": self._of_strangers(),
            "I4 taken from a living worker": self._stolen(),
            "I5 early": self._early(),
        }
        return {name: found for name, found in checks.items() if found}

    def reclaims(self, killed_at: Mapping[str, float]) -> list[float]:
        """The seconds from the death of a worker to the next claim, for each job that it held."""
        return [
            after.at - killed_at[before.worker_id]
            for claims in self._claims().values()
            for before, after in pairwise(claims)
            if before.worker_id in killed_at
        ]

    def _claims(self) -> dict[str, list[Change]]:
        claims: dict[str, list[Change]] = defaultdict(list)
        for change in self.changes:
            if change.became == "running":
                claims[change.job_id].append(change)
        return claims

    def _lost(self) -> list[str]:
        ended = {change.job_id for change in self.changes if change.became in FINAL}
        return [job_id for job_id in self.acknowledged if job_id not in ended]

    def _ended_twice(self) -> list[str]:
        return _repeated(change.job_id for change in self.changes if change.became in FINAL)

    def _started_twice(self) -> list[int]:
        return _repeated(event["token"] for event in self.events if event["event"] == "start")

    def _of_strangers(self) -> list[Change]:
        """What ended or was taken away is the newest claim, and what completed had ended by its task's own word."""
        newest: dict[str, Change] = {}
        finished = {event["token"] for event in self.events if event["event"] == "end"}
        strangers = []
        for change in self.changes:
            claim = newest.get(change.job_id)
            if change.became == "running":
                rises = claim is None or change.token > claim.token
                newest[change.job_id] = change
            else:
                rises = claim is not None and (change.token, change.worker_id) == (claim.token, claim.worker_id)
            if not rises or (change.became == "completed" and change.token not in finished):
                strangers.append(change)
        return strangers

    def _stolen(self) -> list[Change]:
        return [c for c in self.changes if c.was == "running" and c.became != "completed" and c.holder_lives]

    def _early(self) -> list[tuple[str, float]]:
        due = {change.job_id: change.due for change in self.changes}
        starts = [(event["name"], event["at"]) for event in self.events if event["event"] == "start"]
        return [(name, due[name] - at) for name, at in starts if at < due[name]]


async def history_of(pool: asyncpg.Pool[asyncpg.Record]) -> list[Change]:
    return [Change(*row) for row in await pool.fetch("SELECT * FROM status_history ORDER BY seq")]


def _repeated(things: Iterable[T]) -> list[T]:
    return [thing for thing, count in Counter(things).items() if count > 1]
