"""A PostgreSQL of the release's own, to try things out."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from pg_scheduler.cli.stop_signals import StopSignals
from pg_scheduler.embedded import EmbeddedPostgres

if TYPE_CHECKING:
    from pathlib import Path

logger = logging.getLogger(__name__)


async def serve(data: Path, *, password_file: Path, port: int) -> None:
    """Serve everybody who has the password, as the user postgres, until SIGTERM.

    The password is that of the folder's first start.
    """
    signals = StopSignals()
    signals.install()
    settings = {"listen_addresses": "*", "port": str(port)}
    hba = ["host all all all scram-sha-256"]
    with EmbeddedPostgres(data, settings=settings, hba=hba, password_file=password_file):
        logger.info("PostgreSQL is ready on port %d", port)
        await signals.event.wait()
