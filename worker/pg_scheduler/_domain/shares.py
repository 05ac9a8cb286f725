"""What pools say of a worker, and whose turn it is among its queues.

Invariant: while every queue has due work, the jobs that were started of each are to each other as the weights, within
one claim; none is left out for ever, and one that had nothing to do for a while gets nothing back for it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSettings:
    """What stands in the database for one worker.

    Attributes:
        weights: by queue; 1 where nothing is said.
        limited: queues of which not more than so many jobs run, or start in a time.
        allowed_tasks: globs of the tasks that it may run; None means all.
    """

    weights: Mapping[str, int] = field(default_factory=dict)
    limited: frozenset[str] = frozenset()
    allowed_tasks: tuple[str, ...] | None = None


class Shares:
    """Stride scheduling: a job takes its queue on by the inverse of the weight, and the one furthest back is next."""

    def __init__(self, queues: Sequence[str]) -> None:
        self._weights: Mapping[str, int] = {}
        self._passed = dict.fromkeys(queues, 0.0)
        self._reached = 0.0

    def weigh(self, weights: Mapping[str, int]) -> None:
        """These weights count from now on."""
        self._weights = weights

    def order(self) -> list[str]:
        """The queues, the one first whose turn it is."""
        return sorted(self._passed, key=self._passed.__getitem__)

    def charge(self, started: Mapping[str, int]) -> None:
        """A claim has started so many jobs of each.

        Who has due jobs is asked when it is furthest back. So one that is further back than who has got some had none,
        and is not to make up for that later.
        """
        had_some = [self._passed[queue] for queue, number in started.items() if number]
        self._reached = max(self._reached, min(had_some, default=0.0))
        for queue, passed in self._passed.items():
            self._passed[queue] = max(passed, self._reached) + started.get(queue, 0) / self._weights.get(queue, 1)
