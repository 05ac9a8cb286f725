"""Whether the cluster's CRDs are those of this release.

Invariant: older ones are served as they are. That they are older is told once, until they are not; who may not read
them does not know.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from pg_scheduler_operator.crdgen import REVISION
from pg_scheduler_operator.metrics import CRDS_OUTDATED
from pg_scheduler_operator.reconciler import Loop, repeat
from pg_scheduler_operator.status import Reason

if TYPE_CHECKING:
    from collections.abc import Collection

    from pg_scheduler_operator.gateway.kube import KubeResources
    from pg_scheduler_operator.metrics import Metrics

LOOK_SECONDS: Final = 300.0

logger = logging.getLogger(__name__)


class Revisions:
    """Looks at them now and then."""

    def __init__(self, resources: KubeResources, metrics: Metrics) -> None:
        self._resources = resources
        self._metrics = metrics
        self._told = False

    async def run(self) -> None:
        """Look for ever."""
        await repeat(Loop.KINDS, self.look, LOOK_SECONDS, metrics=self._metrics)

    async def look(self) -> None:
        """Look once, and tell what is news."""
        revisions = await self._resources.crd_revisions()
        if revisions is None:
            self._metrics.drop(CRDS_OUTDATED)
            return
        older = sorted(name for name, revision in revisions.items() if revision < REVISION)
        self._metrics.set(CRDS_OUTDATED, len(older))
        if older and not self._told:
            await self._tell(older)
        self._told = bool(older)

    async def _tell(self, older: Collection[str]) -> None:
        what = f"the CRDs {', '.join(older)} are older than this release: Kubernetes drops fields that they do not have"
        note = f"{what}. Bring them up to date: pgscheduler crds | kubectl apply --server-side -f -"
        logger.warning("%s: %s", Reason.CRDS_OUTDATED, note)
        await self._resources.warn(Reason.CRDS_OUTDATED, note)
