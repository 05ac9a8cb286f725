"""Who a worker says that it is."""

import secrets
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version

from pg_scheduler._engine.config import EngineConfig
from pg_scheduler._store.workers import WorkerCard


def new_worker_id(length: int) -> str:
    """A random name, new for each incarnation."""
    return secrets.token_hex(length)[:length]


def worker_card(config: EngineConfig, *, schedules: Sequence[str], environment: Mapping[str, str]) -> WorkerCard:
    """What a worker says of itself; the name is new for each incarnation and filled in then."""
    return WorkerCard(
        worker_id="",
        tenant=config.tenant,
        queues=config.queues,
        schedules=schedules,
        slots=config.slots,
        version=_version(),
        pod=environment.get("PGSCHEDULER_POD_NAME"),
        pod_uid=environment.get("PGSCHEDULER_POD_UID"),
        pod_namespace=environment.get("PGSCHEDULER_POD_NAMESPACE"),
        node=environment.get("PGSCHEDULER_NODE_NAME"),
        pool=config.pool,
    )


def _version() -> str:
    try:
        return version("pgscheduler")
    except PackageNotFoundError:
        return "unknown"
