"""Sweeps that operators hold, for people to look at and agree to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pg_scheduler.control import Control
    from pg_scheduler.operations import HeldSweep


async def held_sweeps(control: Control, *, cluster: str | None, confirm: bool) -> Sequence[HeldSweep]:
    """Those of one cluster or of all, as they stand once they are confirmed, if they are to be."""
    async with control:
        if confirm:
            await control.operations.confirm_sweeps(cluster)
        sweeps = await control.operations.held_sweeps()
    return [sweep for sweep in sweeps if cluster in {None, sweep.cluster}]


def record(sweep: HeldSweep) -> dict[str, Any]:
    """As it is printed."""
    return {
        "cluster": sweep.cluster,
        "held_since": sweep.held_at.isoformat(timespec="seconds"),
        "rows": sweep.rows,
        "of": sweep.of,
        "confirmed": sweep.is_confirmed,
    }
