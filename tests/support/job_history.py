"""What happened to the rows, written by triggers in the transactions that did it, and the judge of it.

Invariants (design page 7 §7.1): I2 one outcome, I3 fence, I4 lease, I5 not early, I6 ticks, I7 bounded interruptions,
charged to the poison job alone; truthful answers; those of ``judged_keys`` and ``judged_workers``. The judge knows only
the history and what was asked, nothing of the engine's state.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from support.changes import Broken, Change, Known, require
from support.judged_keys import POLITE, Keys
from support.parked import EPOCH

if TYPE_CHECKING:
    from support.judged_workers import Workers
    from support.parked import Backend, Call, VirtualTime

INSTALL = """
CREATE TABLE stepper_history (
    seq bigint GENERATED ALWAYS AS IDENTITY, backend int NOT NULL DEFAULT pg_catalog.pg_backend_pid(),
    kind text, id text,
    old_status text, new_status text, old_token bigint, new_token bigint, old_worker text, new_worker text,
    old_stopping text, new_stopping text, attempt bigint, retry_count int, interruptions bigint,
    started_at timestamptz, execution_time timestamptz, schedule_id bigint, tick_at timestamptz,
    holder_state text, holder_lease timestamptz, stopping_state text, stop_asked_at timestamptz,
    concurrency_key text, on_full text, new_lease timestamptz,
    at timestamptz DEFAULT scheduler_now(),
    PRIMARY KEY (backend, seq));

CREATE FUNCTION stepper_job() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE was scheduled_jobs := CASE WHEN TG_OP = 'INSERT' THEN NULL ELSE OLD END;
        is_ scheduled_jobs := CASE WHEN TG_OP = 'DELETE' THEN NULL ELSE NEW END;
        row_ scheduled_jobs := CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END;
        holder scheduler_workers;
        stopping text := (SELECT state FROM scheduler_workers WHERE id = was.stopping_worker);
BEGIN
    SELECT * INTO holder FROM scheduler_workers
    WHERE id = CASE WHEN was.status = 'running' THEN was.worker_id ELSE is_.worker_id END;
    INSERT INTO stepper_history (kind, id, old_status, new_status, old_token, new_token, old_worker, new_worker,
        old_stopping, new_stopping, attempt, retry_count, interruptions, started_at, execution_time, schedule_id,
        tick_at, holder_state, holder_lease, stopping_state, stop_asked_at, concurrency_key, on_full)
    VALUES ('job', row_.job_id, was.status, is_.status, was.token, is_.token, was.worker_id, is_.worker_id,
        was.stopping_worker, is_.stopping_worker, row_.attempt, row_.retry_count, row_.interruptions, row_.started_at,
        row_.execution_time, row_.schedule_id, row_.tick_at, holder.state, holder.lease_until,
        stopping, was.stop_asked_at, row_.concurrency_key, row_.on_full);
    RETURN NULL;
END $$;
-- By its name it comes before the engine's own, which changes other rows.
CREATE TRIGGER a_stepper_job AFTER INSERT OR UPDATE OR DELETE ON scheduled_jobs
    FOR EACH ROW EXECUTE FUNCTION stepper_job();

CREATE FUNCTION stepper_worker() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO stepper_history (kind, id, old_status, new_status, new_lease)
    VALUES ('worker', NEW.id, CASE WHEN TG_OP = 'UPDATE' THEN OLD.state END, NEW.state, NEW.lease_until);
    RETURN NULL;
END $$;
CREATE TRIGGER stepper_worker AFTER INSERT OR UPDATE ON scheduler_workers
    FOR EACH ROW EXECUTE FUNCTION stepper_worker();

CREATE FUNCTION stepper_limit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO stepper_history (kind, id, attempt)
    VALUES ('limit', coalesce(NEW.key, OLD.key), coalesce(NEW.limit_, 1));
    RETURN NULL;
END $$;
CREATE TRIGGER stepper_limit AFTER INSERT OR UPDATE OR DELETE ON scheduler_concurrency_limits
    FOR EACH ROW EXECUTE FUNCTION stepper_limit();
"""

OPEN = frozenset({"pending", "waiting", "running"})
ENDED = frozenset({"completed", "failed", "cancelled", "expired"})
LEGAL: dict[str, set[tuple[str | None, str | None]]] = {
    "insert_job": {(None, "pending"), (None, "expired")},
    "insert_claimed_job": {(None, "running"), (None, "pending"), (None, "expired")},
    "insert_ticks": {(None, "pending")},
    "claim_jobs": {("pending", "running"), ("pending", "expired")},
    "claim_poison_job": {("pending", "running")},
    "claim_keyed_jobs": {
        *(("pending", new) for new in ("running", "expired", "waiting", "cancelled")),
        *(("waiting", "cancelled"), ("running", "cancelled")),
    },
    "complete_jobs": {("running", "completed")},
    "fail_job": {("running", "failed")},
    "retry_job": {("running", "pending")},
    "release_jobs": {("running", "pending")},
    "release_ghosts": {("running", "pending")},
    "requeue_orphans": {("running", "pending"), ("running", "failed")},
    "cancel_job": {(status, "cancelled") for status in OPEN},
    "replace_job": {(status, new) for status in {None} | OPEN | ENDED for new in ("pending", "expired")},
    "scheduler_enqueue": {(status, new) for status in {None} | OPEN | ENDED for new in ("pending", "expired")},
    "outlive_two_workers": {("pending", "pending")},
    "run_job_again": {(status, "pending") for status in ENDED - {"completed"}},
    "report_stopped": {(status, status) for status in OPEN | ENDED},
    "forget_stopping": {(status, status) for status in OPEN | ENDED},
    "take_back_ticks": {("pending", None)},
    "cancel_ticks": {("pending", "cancelled"), ("waiting", "cancelled")},
}
"""Who may do what to a job, from the design: the independent half of every check. Whoever frees a slot, or raises a
limit, promotes besides."""
PROMOTION = ("waiting", "pending")
OWN_JOB = {"replace_job", "scheduler_enqueue"}
"""Whose first value is the id of the job that they change."""
SILENT = frozenset(
    {
        *("look_ahead", "held_tokens", "sweep_needs", "must_make_room"),
        *("now", "due_schedules", "next_tick", "lock_schedule", "advance_schedules", "wake_tickers"),
        *("serve_queues", "wake_workers", "BEGIN"),
    }
)
"""Which change no job and no worker."""
FENCED = {"complete_jobs", "fail_job", "retry_job", "release_jobs", "release_ghosts"}


POISON = 2
"""A job that has outlived so many workers runs alone."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """A claim as it was committed; ``limit`` is that of the job's key at that moment."""

    job_id: str
    elapsed: float
    key: str | None
    limit: int
    is_poison: bool


@dataclass(slots=True)
class Judge:
    """Follows every change and refuses what the design does not allow."""

    time: VirtualTime
    workers: Workers
    max_interruptions: int
    keys: Keys = field(default_factory=Keys)
    latest: datetime = EPOCH
    jobs: dict[str, Known] = field(default_factory=dict)
    highest_token: int = 0
    outcomes: Counter[int] = field(default_factory=Counter)
    given_back: set[int] = field(default_factory=set)
    ticks_made: dict[int, set[datetime]] = field(default_factory=lambda: defaultdict(set))
    last_seen: dict[int, int] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    claims: dict[int, Claimed] = field(default_factory=dict)
    started: set[int] = field(default_factory=set)

    async def read(self, backend: Backend) -> list[Change]:
        """What this session has changed since the last look; its own transaction included."""
        pid = backend.connection.get_server_pid()
        rows = await backend.connection.fetch(
            "SELECT * FROM stepper_history WHERE backend = $1 AND seq > $2 ORDER BY seq",
            pid,
            self.last_seen.get(pid, 0),
        )
        if rows:
            self.last_seen[pid] = rows[-1]["seq"]
        return [Change(*row) for row in rows]

    def judge(self, call: Call, changes: list[Change]) -> None:
        """Hold what one statement did, and what it answered, to the invariants."""
        self.latest = max(self.latest, self.time.now)
        if call.name in FENCED:
            self._count_tries(call)
        if call.name == "requeue_orphans":
            self._judge_charges(changes)
        self.keys.begin_statement()
        for change in changes:
            self._judge_change(call, change)
        if call.name == "claim_keyed_jobs":
            self.keys.judge_skips(changes)
        if call.error is None:
            _require_truth(call, changes)

    async def judge_slots(self, backend: Backend) -> None:
        """The engine's table of slots against ours, and nobody stranded."""
        rows = await backend.connection.fetch("SELECT job_id, key FROM scheduler_slots")
        self.keys.judge_table((row["job_id"], row["key"]) for row in rows)
        self.keys.judge_waiting(self.jobs, self.latest)

    def _count_tries(self, call: Call) -> None:
        """How often the fence alone kept a job from a stranger: a run in which it never did has proved little."""
        for token in fence_of(call)[0]:
            known = self.jobs.get(self.claims[token].job_id) if token in self.claims else None
            if known is not None and known.status == "running" and known.token != token:
                self.counts[f"{call.name} refused"] += 1

    def _judge_change(self, call: Call, change: Change) -> None:
        match change.kind:
            case "worker":
                self.workers.judge(call, change)
                if call.name == "suspect_workers":
                    self.counts[call.name] += 1
            case "limit":
                self.keys.limits[change.id] = change.attempt
            case _:
                self._judge_job(call, change)

    def _judge_job(self, call: Call, change: Change) -> None:
        promoted = change.move == PROMOTION and not (call.name in OWN_JOB and change.id == call.values[0])
        require(promoted or change.move in LEGAL.get(call.name, set()), f"{call.name} is not allowed {change.move}")
        known = self.jobs.get(change.id)
        if known is not None:
            was = (change.old_status, change.old_token, change.old_stopping)
            require(
                was == (known.status, known.token, known.stopping), f"an unseen change of {change.id}: {was} {known}"
            )
        self.keys.follow(change, promoted=promoted)
        if promoted:
            self.counts["promoted"] += 1
        else:
            self._judge_own(call, change)
        self._remember(change)

    def _judge_own(self, call: Call, change: Change) -> None:
        """What the statement itself did, not what followed from it."""
        if change.old_status == "running" != change.new_status:
            self._judge_outcome(change)
        if call.name in FENCED:
            self._judge_fence(call, change)
        check = getattr(self, f"_judge_{call.name}", None)
        if check is not None:
            check(call, change)
        self.counts[call.name] += 1

    def _judge_charges(self, changes: list[Change]) -> None:
        """Of what a dead worker held only those are charged that had outlived the most before."""
        held = defaultdict[str | None, list[tuple[int, int]]](list)
        for change in changes:
            if change.old_status == "running":
                held[change.old_worker].append((self.jobs[change.id].interruptions, change.interruptions))
        for worker, counts in held.items():
            most = max(before for before, _ in counts)
            require(
                all(after - before == (before == most) for before, after in counts),
                f"the death of {worker} is charged to {counts}",
            )

    def _remember(self, change: Change) -> None:
        if change.new_status is None:
            del self.jobs[change.id]
            return
        self.highest_token = max(self.highest_token, change.new_token or 0)
        self.jobs[change.id] = Known.after(change, self.jobs.get(change.id))

    def _judge_fence(self, call: Call, change: Change) -> None:
        tokens, worker = fence_of(call)
        require(change.old_token in tokens, f"I3 {call.name} took token {change.old_token}, asked for {tokens}")
        require(change.old_worker == worker, f"I3 {call.name} of {worker} took a job of {change.old_worker}")
        if call.name in {"release_jobs", "release_ghosts"}:
            self.given_back.add(change.old_token or 0)

    def _judge_outcome(self, change: Change) -> None:
        """Every way out of running is the one outcome of its token."""
        self.outcomes[change.old_token or 0] += 1
        require(self.outcomes[change.old_token or 0] == 1, f"I2 token {change.old_token} has two outcomes")

    def _judge_claim_jobs(self, call: Call, change: Change) -> None:
        self._judge_claim(call.values[0], change, ahead=timedelta(seconds=call.values[6]), alone=False)

    def _judge_insert_claimed_job(self, call: Call, change: Change) -> None:
        if change.new_status == "running":
            worker, seconds = call.values[-2:]
            self._judge_claim(worker, change, ahead=timedelta(seconds=seconds), alone=False)

    def _judge_claim_poison_job(self, call: Call, change: Change) -> None:
        self._judge_claim(call.values[0], change, ahead=timedelta(), alone=True)

    def _judge_claim_keyed_jobs(self, call: Call, change: Change) -> None:
        if change.new_status in {"running", "expired"}:
            ahead = timedelta(seconds=0 if call.values[5] or change.on_full == "replace" else call.values[6])
            self._judge_claim(call.values[0], change, ahead=ahead, alone=call.values[5])
        elif change.new_status == "cancelled":
            self._judge_displaced(change)

    def _judge_claim(self, worker: str, change: Change, *, ahead: timedelta, alone: bool) -> None:
        require((change.new_token or 0) > self.highest_token, "I3 a claim drew a token that is not the highest")
        require(change.new_worker == worker, "a claim for somebody else")
        require(change.holder_state == "alive", f"I4 a claim by a worker that is {change.holder_state}")
        require(change.holder_lease is not None and change.holder_lease > change.at, "I4 a claim without a lease")
        require(change.old_stopping is None, "a claim while the old coroutine may run")
        if change.new_status == "expired":
            require(change.old_token == 0, "a job expires that had been claimed in time")
            return
        is_poison = change.interruptions >= POISON
        require(is_poison == alone, f"a job that has outlived {change.interruptions} workers is claimed wrongly")
        require(change.execution_time <= change.at + ahead, "I5 a claim before the job is due")
        require(change.started_at == max(change.at, change.execution_time), "I5 started_at is before the job is due")
        key = change.concurrency_key
        self.claims[change.new_token or 0] = Claimed(change.id, self.time.elapsed, key, self.keys.limit(key), is_poison)

    def _judge_displaced(self, change: Change) -> None:
        """A claim cancels what skips, and what newer jobs of the key replace; who runs is waited for."""
        by_others = any(
            job.replaces and job.key == change.concurrency_key and job_id != change.id and job.status not in ENDED
            for job_id, job in self.jobs.items()
        )
        skips = change.on_full in POLITE and change.attempt == 0 and change.old_status == "pending"
        require(skips or by_others, f"a claim cancels {change.id}, which nobody replaces")
        if change.old_status == "running":
            require(change.new_stopping == change.old_worker, "nobody waits for the coroutine of a displaced job")

    def _judge_requeue_orphans(self, _call: Call, change: Change) -> None:
        require(change.holder_state in {"dead", None}, f"I4 requeued while its worker is {change.holder_state}")
        failed = change.new_status == "failed"
        require(failed == (change.interruptions > self.max_interruptions), "I7 the cap of interruptions is not kept")

    def _judge_cancel_job(self, _call: Call, change: Change) -> None:
        expected = change.old_worker if change.old_status == "running" else change.old_stopping
        require(change.new_stopping == expected, "nobody waits for the coroutine of a cancelled job")

    def _judge_replace_job(self, _call: Call, change: Change) -> None:
        expected = change.old_worker if change.old_status == "running" else change.old_stopping
        require(change.new_stopping == expected, "nobody waits for the coroutine of a replaced job")
        require(change.new_token == 0, "I3 a replaced job keeps its token")
        require(
            (change.attempt, change.retry_count, change.interruptions) == (0, 0, 0), "a replaced job keeps its counts"
        )

    _judge_scheduler_enqueue = _judge_replace_job

    def _judge_run_job_again(self, _call: Call, change: Change) -> None:
        require(change.new_stopping == change.old_stopping, "run again forgot the coroutine that may still run")

    def _judge_report_stopped(self, call: Call, change: Change) -> None:
        require(change.old_stopping == call.values[1], "the word of another worker was taken")
        stopped = self.jobs[change.id].stopped_token
        require(stopped == call.values[2], f"the word of {call.values[2]} was taken for that of {stopped}")

    def _judge_forget_stopping(self, _call: Call, change: Change) -> None:
        waited = change.stop_asked_at is not None and change.at - change.stop_asked_at > timedelta(seconds=30)
        require(waited or change.stopping_state != "alive", "the end of a coroutine is not waited for")

    def _judge_release_ghosts(self, _call: Call, change: Change) -> None:
        require(change.old_token not in self.started, f"I2 a job that has started is called a ghost: {change.id}")

    def _judge_insert_ticks(self, _call: Call, change: Change) -> None:
        if change.schedule_id is None or change.tick_at is None:
            raise Broken("I6 a tick without its schedule")
        made = self.ticks_made[change.schedule_id]
        require(change.tick_at not in made, f"I6 two jobs of the tick {change.tick_at:%H:%M:%S}")
        made.add(change.tick_at)

    def _judge_take_back_ticks(self, _call: Call, change: Change) -> None:
        if change.schedule_id is None or change.tick_at is None:
            raise Broken("I6 a tick without its schedule")
        self.ticks_made[change.schedule_id].discard(change.tick_at)


def fence_of(call: Call) -> tuple[set[int], str]:
    """The tokens and the worker that a fenced statement names."""
    if call.name == "release_ghosts":
        return set(call.values[1]), call.values[0]
    tokens = call.values[1]
    return set(tokens) if isinstance(tokens, list) else {tokens}, call.values[2]


def _require_truth(call: Call, all_changes: list[Change]) -> None:
    """The answer says what was done, no more and no less."""
    changes = [change for change in all_changes if change.kind == "job" and change.move != PROMOTION]
    reply: Any = call.reply
    said: set[Any]
    done: set[Any]
    match call.name:
        case "claim_jobs":
            said, done = {row["token"] for row in reply}, {change.new_token for change in changes}
        case "claim_keyed_jobs":
            said = {row["token"] for row in reply}
            done = {change.new_token for change in changes if change.new_status in {"running", "expired"}}
        case "claim_poison_job":
            said, done = {reply["token"]} if reply else set(), {change.new_token for change in changes}
        case "suspect_workers":
            said, done = {row["id"] for row in reply if row["is_new"]}, {change.id for change in all_changes}
        case "complete_jobs" | "release_jobs" | "release_ghosts":
            said, done = {row["token"] for row in reply}, {change.old_token for change in changes}
        case "requeue_orphans":
            said, done = {row["job_id"] for row in reply}, {change.id for change in changes}
        case "insert_claimed_job":
            said = {(reply["job_id"], reply["token"], reply["status"])} if reply else set()
            done = {(change.id, change.new_token, change.new_status) for change in changes}
        case "insert_job" | "fail_job" | "retry_job" | "cancel_job" | "run_job_again":
            said, done = {reply is not None}, {bool(changes)}
        case "replace_job" | "scheduler_enqueue":
            said = set() if reply is None else {call.values[0]}
            done = {change.id for change in all_changes if change.id == call.values[0]}
        case _:
            return
    require(said == done, f"{call.name} answered {said} and did {done}")
