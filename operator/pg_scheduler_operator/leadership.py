"""Which of several operators serves: the one that holds the Lease.

Invariants: the holder stops ``LEASE_SECONDS - HOLD_SECONDS`` before anybody else may begin, by the monotonic clocks of
both; no machine's wall clock is compared with another's. Every write names the version that was read, so that of two
who try at once one is refused.

It is our own since kubernetes-asyncio's leaderelection, as of 36.1, has no limit for a request (a hanging API server
leaves two holders), lets an aiohttp error end the election, compares wall clocks, and never gives a Lease back.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, NoReturn, Protocol

from pg_scheduler_operator.errors import KubernetesError, LeadershipLost, ObjectChanged
from pg_scheduler_operator.metrics import LOOP_AGE
from pg_scheduler_operator.reconciler import Loop

if TYPE_CHECKING:
    from collections.abc import Callable

    from pg_scheduler_operator.gateway.lease import LeaseRecord
    from pg_scheduler_operator.metrics import Metrics

LEASE_SECONDS: Final = 15.0
"""How long after its last sign of life a holder counts as gone."""
HOLD_SECONDS: Final = 10.0
"""How long after its last renewal a holder still takes itself for one."""
LOOK_SECONDS: Final = 2.0
SOON_SECONDS: Final = 0.2
RELEASE_SECONDS: Final = 2.0

logger = logging.getLogger(__name__)


class Lease(Protocol):
    """One Lease object; every method may raise ``KubernetesError``."""

    async def read(self) -> LeaseRecord:
        """As it stands."""

    async def write(self, record: LeaseRecord) -> LeaseRecord:
        """Replace the version that ``record`` was made of, else ``ObjectChanged``; as it then stands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """A record, and when it was first seen so."""

    record: LeaseRecord
    since: float


class Election:
    """One candidate."""

    def __init__(
        self, lease: Lease, *, identity: str, metrics: Metrics, clock: Callable[[], float] = monotonic
    ) -> None:
        self._lease = lease
        self._identity = identity
        self._metrics = metrics
        self._clock = clock
        self._observed: Observed | None = None
        self._held: LeaseRecord | None = None
        self._renewed_at = 0.0

    async def acquire(self, *, on_look: Callable[[bool], None]) -> None:
        """Stand by until the Lease is ours; ``on_look`` is told after each look whether the API server answered."""
        told = False
        while True:
            self._metrics.mark(LOOP_AGE, Loop.LEASE)
            try:
                async with asyncio.timeout(LEASE_SECONDS):
                    is_ours = await self.try_once()
            except (KubernetesError, TimeoutError) as error:
                on_look(False)
                if not told:
                    logger.warning("cannot read or take the Lease: %s (tried again)", _text(error))
                told = True
            else:
                on_look(True)
                told = False
                if is_ours:
                    logger.info("leading as %s", self._identity)
                    return
            await asyncio.sleep(self.pause_seconds())

    def pause_seconds(self) -> float:
        """How long to stand by until the next look: not beyond the end of a Lease that nobody renews."""
        if self._observed is None or not self._observed.record.holder:
            return LOOK_SECONDS
        left = self._observed.since + LEASE_SECONDS - self._clock()
        return min(LOOK_SECONDS, max(left, SOON_SECONDS))

    async def try_once(self) -> bool:
        """One look; whether the Lease is ours now."""
        now = self._clock()
        record = await self._lease.read()
        since = self._observe(record)
        if record.holder not in {"", self._identity} and now - since < LEASE_SECONDS:
            return False
        return await self._take(record)

    async def take_over(self) -> None:
        """Take the Lease whoever holds it, and return once that one has had the time to notice and to end.

        Raises:
            KubernetesError: it cannot be read or written.
        """
        while not await self._take(record := await self._lease.read()):
            pass  # it was renewed between our read and our write
        if record.holder:
            await asyncio.sleep(HOLD_SECONDS)

    async def _take(self, record: LeaseRecord) -> bool:
        """Make the Lease ours, unless it has changed since it was read."""
        now, stamp = self._clock(), datetime.now(UTC)
        wish = replace(
            record,
            holder=self._identity,
            acquired_at=stamp,
            renewed_at=stamp,
            transitions=record.transitions + 1,
        )
        try:
            self._held = await self._lease.write(wish)
        except ObjectChanged:
            return False
        self._renewed_at = now
        return True

    def _observe(self, record: LeaseRecord) -> float:
        """Since when the record has stood like this, as far as we have seen."""
        before = self._observed
        if before is not None and before.record == record:
            return before.since
        if record.holder and (before is None or before.record.holder != record.holder):
            logger.info("standing by: %s leads", record.holder)
        self._observed = Observed(record=record, since=self._clock())
        return self._observed.since

    async def hold(self) -> NoReturn:
        """Renew the Lease for as long as that goes.

        Raises:
            LeadershipLost: it is another's, or has not been renewed for so long that it may soon be.
        """
        while True:
            self._metrics.mark(LOOP_AGE, Loop.LEASE)
            await asyncio.sleep(LOOK_SECONDS)
            try:
                async with asyncio.timeout(self.seconds_left):
                    await self.renew_once()
            except (KubernetesError, TimeoutError) as error:
                if self.seconds_left <= 0:
                    raise LeadershipLost(
                        "the Lease could not be renewed in time", why=_text(error), fix="it is started again"
                    ) from None
                logger.warning("the Lease is not renewed: %s (tried again)", _text(error))

    @property
    def seconds_left(self) -> float:
        """How long this process may still take itself for the holder."""
        return self._renewed_at + HOLD_SECONDS - self._clock()

    async def renew_once(self) -> None:
        """Say that we live.

        Raises:
            LeadershipLost: the Lease is another's.
        """
        now = self._clock()  # before the request: how long it takes counts as silence
        await self._write(renewed_at=datetime.now(UTC))
        self._renewed_at = now

    async def release(self) -> None:
        """Give the Lease back, so that nobody has to wait for its end; a courtesy that may fail."""
        with contextlib.suppress(KubernetesError, LeadershipLost, TimeoutError):
            async with asyncio.timeout(RELEASE_SECONDS):
                await self._write(holder="")
        self._held = None

    async def _write(self, **changes: Any) -> None:
        """Change the Lease while it is ours, also where an earlier write of ours has arrived and its answer has not."""
        held = self._held or await self._ours()
        try:
            self._held = await self._lease.write(replace(held, **changes))
        except ObjectChanged:
            self._held = None
            self._held = await self._lease.write(replace(await self._ours(), **changes))

    async def _ours(self) -> LeaseRecord:
        record = await self._lease.read()
        if record.holder != self._identity:
            raise LeadershipLost(f"the Lease is held by {record.holder or 'nobody'}", fix="it is started again")
        return record


def _text(error: Exception) -> str:
    return str(error) or "no answer in time"
