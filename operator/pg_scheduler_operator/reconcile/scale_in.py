"""Taking replicas away without taking away a pod that is busy.

A pod that is to go, a victim, goes in three turns, and each turn acts only on what it has read itself, so that an
operator that starts in the middle goes on from there: it is marked, so that its workers claim nothing more; when a
later look finds the mark standing and the pod idle (or drained for as long as the pool allows), it gets a negative
deletion cost; when a look finds that standing too, the target is lowered by the number of such pods. The mark ends by
itself a minute after the last renewal; a cost alone does nothing, and is taken off a pod that is no victim.

Why a busy pod is not taken: the mark waits for claims under way, and what is claimed after it is seen by the look
after it. Claims within a submission do not hold the worker's row, so theirs may end later than the mark by the length
of a statement: between the mark and the lowering there are two looks, half a second apart.

A pod that found no node, or whose containers never started, has no worker and is no reason to wait: the ReplicaSet
deletes it before all others, so it is the first victim. Before it go replicas of which there is no pod at all, because
a quota or a policy forbids them: the target is lowered by their number, and should they be made meanwhile, they are the
ones that the ReplicaSet deletes.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from pg_scheduler_operator.resources import PodStage
from pg_scheduler_operator.status import Reason, Refusal

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from pg_scheduler.demand import WorkerLoad
    from pg_scheduler_operator.resources import Pod

VICTIM_COST: Final = -1_000_000
"""The cost of our victims; any other number is somebody else's."""

RENEW_BELOW_SECONDS: Final = 40.0
"""A mark lasts 60 s: it is renewed long before a slow turn could let it end."""

NEWBORN: Final = timedelta(seconds=60)
"""How old a pod on a node may be of which no worker has told yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Occupancy:
    """A pod and what its workers do.

    Attributes:
        has_worker: whether a worker of it lives.
        busy: jobs that its workers run.
        mark_seconds: for how long none of its workers claims anything; None when one may.
        drained_seconds: for how long that has been so.
    """

    pod: Pod
    has_worker: bool
    busy: int
    mark_seconds: float | None
    drained_seconds: float

    @property
    def is_marked(self) -> bool:
        """Whether no worker of it claims anything. One without workers has nobody to claim."""
        return self.mark_seconds is not None or not self.has_worker

    @property
    def has_not_started(self) -> bool:
        """Whether nothing of it has ever run."""
        return self.pod.stage <= PodStage.PENDING and not self.has_worker


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """From how many replicas to how many, and by what rules.

    Attributes:
        drain_seconds: how long a victim may stay busy.
        uses_cost: whether deletion costs are given.
        has_workers_without_pod: whether workers live that do not know their pod, so that any pod may be busy.
    """

    wanted: int
    desired: int
    drain_seconds: float
    uses_cost: bool
    has_workers_without_pod: bool
    now: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleIn:
    """What one turn does to take replicas away.

    Attributes:
        hold: why nothing is taken away for now.
        mark: pods whose workers shall claim nothing for the next minute.
        spare: pods whose workers claim again.
        give_cost: pods that the ReplicaSet shall delete first.
        clear_cost: pods that are victims no more.
        lower: the victims by whose number the target is lowered.
        unmade: replicas without a pod, by which it is lowered too.
        marked_pods: how many pods are marked once this is done.
    """

    hold: Refusal | None = None
    mark: Sequence[Pod] = ()
    spare: Sequence[Pod] = ()
    give_cost: Sequence[Pod] = ()
    clear_cost: Sequence[Pod] = ()
    lower: Sequence[Pod] = ()
    unmade: int = 0
    marked_pods: int = 0

    @property
    def is_under_way(self) -> bool:
        """Whether the next turn should come soon."""
        return bool(self.mark or self.give_cost or self.lowered_by)

    @property
    def lowered_by(self) -> int:
        """By how many replicas the target is lowered."""
        return len(self.lower) + self.unmade


def occupancies(pods: Sequence[Pod], workers: Sequence[WorkerLoad]) -> list[Occupancy]:
    """Each pod with its workers; whatever rows say runs there counts, of workers that are late or dead too."""
    by_uid: dict[str | None, list[WorkerLoad]] = {}
    for worker in workers:
        by_uid.setdefault(worker.pod_uid, []).append(worker)
    return [_occupancy(pod, by_uid.get(pod.uid, [])) for pod in pods]


def _occupancy(pod: Pod, workers: Sequence[WorkerLoad]) -> Occupancy:
    alive = [worker for worker in workers if worker.lives]
    marks = [worker.mark_seconds for worker in alive]
    known = [mark for mark in marks if mark is not None]
    return Occupancy(
        pod=pod,
        has_worker=bool(alive),
        busy=sum(worker.busy for worker in workers),
        mark_seconds=min(known) if known and len(known) == len(marks) else None,
        drained_seconds=min((worker.drained_seconds or 0.0 for worker in alive), default=0.0),
    )


def scale_in(pods: Sequence[Occupancy], intent: Intent) -> ScaleIn:
    """The next step to fewer replicas; when no fewer are wished for, what stands of an earlier wish is undone."""
    standing = [each for each in pods if not each.pod.is_terminating]
    going = max(0, intent.wanted - intent.desired)
    unmade = min(going, max(0, intent.wanted - len(standing)))
    if unmade and _is_of_one_template(pods):
        return ScaleIn(unmade=unmade)
    victims = sorted(standing, key=_first_to_go)[:going]
    hold = _held(pods, standing, victims, intent) if victims else None
    if not victims or (hold is not None and hold.reason is not Reason.PODS_CHANGING):
        return undone(pods, hold)
    return _next_step(standing, victims, hold, intent)


def _next_step(
    standing: Sequence[Occupancy], victims: Sequence[Occupancy], hold: Refusal | None, intent: Intent
) -> ScaleIn:
    if hold is not None:  # who drains goes on: what hinders us may be the last victims, which are still ending
        victims = [each for each in victims if each.mark_seconds is not None]
    ready = [] if hold is not None else [each for each in victims if _may_go(each, intent.drain_seconds)]
    cheap = [each for each in standing if each.pod.deletion_cost == VICTIM_COST]
    to_clear = [each for each in cheap if each not in ready]
    to_give = [each for each in ready if intent.uses_cost and each not in cheap]
    is_unsettled = to_clear or to_give or _would_go_first(standing, ready, uses_cost=intent.uses_cost)
    return ScaleIn(
        hold=hold,
        mark=_pods(each for each in victims if each.has_worker and (each.mark_seconds or 0) < RENEW_BELOW_SECONDS),
        spare=_pods(each for each in standing if each not in victims and each.mark_seconds is not None),
        give_cost=_pods(to_give),
        clear_cost=_pods(to_clear),
        marked_pods=sum(each.has_worker for each in victims),
        lower=[] if is_unsettled else _pods(ready),  # the cheap ones are those that go, and only they
    )


def _would_go_first(standing: Sequence[Occupancy], going: Sequence[Occupancy], *, uses_cost: bool) -> bool:
    """Whether a pod that stays is less far than one that goes, and would be deleted in its place, whatever it costs."""
    furthest = max((each.pod.stage for each in going), default=PodStage.UNSCHEDULED)
    behind = [each for each in standing if each not in going and not each.pod.is_ready and each.pod.stage <= furthest]
    return any(each.pod.stage < furthest or not (uses_cost or each.has_not_started) for each in behind)


def undone(pods: Sequence[Occupancy], hold: Refusal | None = None) -> ScaleIn:
    """Nobody is to go: no mark and no cost stays."""
    standing = [each for each in pods if not each.pod.is_terminating]
    return ScaleIn(
        hold=hold,
        spare=_pods(each for each in standing if each.mark_seconds is not None),
        clear_cost=_pods(each for each in standing if each.pod.deletion_cost == VICTIM_COST),
    )


def _pods(chosen: Iterable[Occupancy]) -> list[Pod]:
    return [each.pod for each in chosen]


def _first_to_go(each: Occupancy) -> tuple[PodStage, bool, int, float, str]:
    """Where no worker lives goes as the ReplicaSet would. Who was chosen stays chosen; then the idle, newest first."""
    stage = PodStage.READY if each.has_worker else each.pod.stage
    return (stage, each.mark_seconds is None, each.busy, -each.pod.created_at.timestamp(), each.pod.name)


def _may_go(each: Occupancy, drain_seconds: float) -> bool:
    return each.is_marked and (each.busy == 0 or each.drained_seconds >= drain_seconds)


def _held(
    pods: Sequence[Occupancy], standing: Sequence[Occupancy], victims: Sequence[Occupancy], intent: Intent
) -> Refusal | None:
    """Why nobody knows which pods are busy, or the ReplicaSet might delete another one than the one meant."""
    if intent.has_workers_without_pod:
        return _hold(Reason.PODS_UNKNOWN, "a worker does not know its pod: set PGSCHEDULER_POD_UID in the Deployment")
    foreign = [each.pod.name for each in standing if each.pod.deletion_cost not in (None, VICTIM_COST)]
    if intent.uses_cost and foreign:
        fix = "set drain.deletionCost to 'Off', or keep it from doing so"
        return _hold(Reason.FOREIGN_DELETION_COST, f"somebody else gives the pod {foreign[0]} a deletion cost: {fix}")
    change = _change(pods, standing, victims, intent)
    return None if change is None else _hold(Reason.PODS_CHANGING, change)


def _change(
    pods: Sequence[Occupancy], standing: Sequence[Occupancy], victims: Sequence[Occupancy], intent: Intent
) -> str | None:
    if len(standing) != len(pods) or len(standing) != intent.wanted:
        return "pods are being made or deleted"
    if not _is_of_one_template(standing):
        return "a rollout is under way: pods of two templates live"
    unready = [each.pod.name for each in standing if not each.pod.is_ready and not _may_be_unready(each, victims)]
    if unready:
        return f"the pod {unready[0]} is not ready and would be deleted first"
    newborn = [each.pod.name for each in standing if _is_newborn(each, intent.now)]
    return f"the worker of the pod {newborn[0]} has not told of itself yet" if newborn else None


def _is_of_one_template(pods: Sequence[Occupancy]) -> bool:
    return len({each.pod.template for each in pods}) <= 1


def _may_be_unready(each: Occupancy, victims: Sequence[Occupancy]) -> bool:
    """A victim that claims nothing may: that it would be deleted first is what is wanted. Else only those behind it."""
    if each in victims:
        return each.is_marked
    return each.pod.stage >= max(victim.pod.stage for victim in victims)


def _is_newborn(each: Occupancy, now: datetime) -> bool:
    """Whether a worker may be about to start there. Where there is no node for it, none is."""
    is_on_node = each.pod.stage is not PodStage.UNSCHEDULED
    return is_on_node and not each.has_worker and now - each.pod.created_at < NEWBORN


def _hold(reason: Reason, message: str) -> Refusal:
    return Refusal(reason=reason, message=message)
