"""The line through, as the README tells it: CRDs, example manifests, and what kubectl then shows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from support.paths import ROOT

if TYPE_CHECKING:
    from support.programs import StartProgram
    from support.tenants import Tenant

_EXAMPLES = ROOT / "examples"


@pytest.mark.usefixtures("operator")
def test_examples_complete_and_are_shown_by_kubectl(tenant: Tenant, start_worker: StartProgram) -> None:
    start_worker(str(_EXAMPLES / "tasks.py"))
    tenant.apply_file(_EXAMPLES / "manifests")

    tenant.wait_for("sjob/hello sjob/count-primes", "condition=Complete", timeout_seconds=10)

    def shows_a_run() -> bool:
        row = tenant.table("pjob")["disk-space"]
        counts = tenant.get("pjob/disk-space").get("status", {}).get("counts", {})
        return row["SCHEDULE"] == "every 3s" and row["READY"] == "True" and counts.get("planned", 0) >= 1

    tenant.wait("kubectl get shows a run of disk-space", shows_a_run)
    shown = tenant.table("pjob")
    assert datetime.fromisoformat(shown["disk-space"]["NEXT"]).utcoffset() == timedelta(0)
    assert shown["disk-space"]["LAST"].endswith("s")
    assert datetime.fromisoformat(shown["nightly-report"]["NEXT"]) == _next_half_past_two()
    assert tenant.table("sjob")["hello"]["STATE"] == "Complete"


def _next_half_past_two() -> datetime:
    now = datetime.now(UTC)
    today = now.replace(hour=2, minute=30, second=0, microsecond=0)
    return today if today > now else today + timedelta(days=1)
