"""What a worker answers over HTTP.

Invariant: it answers from before the database is reached until the worker has shut down.
"""

from collections.abc import Callable

from pg_scheduler._engine.vitals import Vitals
from pg_scheduler._serving.ledger import LedgerReader
from pg_scheduler._serving.metrics import WorkerCollector
from pg_scheduler._serving.probes import why_not_live, why_not_ready
from pg_scheduler._store.ledger import LedgerStore
from pg_scheduler.probe_server import ProbeServer


class WorkerServer(ProbeServer):
    """Serves one worker."""

    def __init__(self, host: str, port: int) -> None:
        self._look: Callable[[], Vitals | None] = lambda: None
        self._ledger: LedgerReader | None = None
        super().__init__(
            host,
            port,
            why_not_live=lambda: why_not_live(self._vitals()),
            why_not_ready=lambda: why_not_ready(self._vitals()),
            collector=WorkerCollector(self._vitals, lambda: self._ledger),
        )

    def watch(self, vitals: Callable[[], Vitals | None]) -> None:
        """Answer for this worker from now on."""
        self._look = vitals

    async def read_ledger(self, store: LedgerStore) -> None:
        """Keep the figures of the started worker's schedules, until cancelled."""
        vitals = self._vitals()
        if vitals is not None:
            self._ledger = LedgerReader(store, tenant=vitals.tenant)
            await self._ledger.run()

    def _vitals(self) -> Vitals | None:
        return self._look()
