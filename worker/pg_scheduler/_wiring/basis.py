"""What a scheduler has before it ever starts, and each of its workers is made from."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pg_scheduler._domain.payloads import PLAIN, Payloads
from pg_scheduler._engine.calls import Middleware
from pg_scheduler._engine.config import EngineConfig
from pg_scheduler._engine.own_worker import OwnWorker
from pg_scheduler._store.driver import Pool
from pg_scheduler._store.wakeups import Bell
from pg_scheduler._wiring.lines import Addresses
from pg_scheduler._wiring.submission import SubmissionParts, wire_submission
from pg_scheduler.periodic import PeriodicJobConfig
from pg_scheduler.tasks import Registry
from pg_scheduler.vacuum import VacuumConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerBasis:
    """What a worker has from its scheduler, and shares with the next one.

    Attributes:
        pool: the caller's, for what jobs themselves submit and for transactions with their outcome.
        bell: rings when this process has submitted something.
        submitting: how jobs submit, and what this process declares.
        payloads: how arguments and results are stored.
    """

    pool: Pool
    registry: Registry
    config: EngineConfig
    bell: Bell
    submitting: SubmissionParts
    middleware: Sequence[Middleware]
    addresses: Addresses
    payloads: Payloads


def wire_basis(
    pool: Pool,
    registry: Registry,
    config: EngineConfig,
    retention: VacuumConfig,
    *,
    declared: Callable[[], Mapping[str, PeriodicJobConfig]],
    own_worker: Callable[[], OwnWorker | None],
    middleware: Sequence[Middleware] = (),
    addresses: Addresses | None = None,
    notify_workers: bool = True,
    payloads: Payloads = PLAIN,
) -> WorkerBasis:
    """Nothing is connected or started. ``declared`` are the schedules of this process, ``own_worker`` its worker."""
    bell = Bell()
    return WorkerBasis(
        pool=pool,
        registry=registry,
        config=config,
        bell=bell,
        submitting=wire_submission(
            pool,
            registry,
            config,
            retention,
            bell,
            declared,
            own_worker=own_worker,
            notify_workers=notify_workers,
            payloads=payloads,
        ),
        middleware=middleware,
        addresses=addresses or Addresses(),
        payloads=payloads,
    )
