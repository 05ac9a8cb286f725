"""The manifests of examples/scaling."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import yaml

from pg_scheduler_operator.errors import InvalidSpec
from pg_scheduler_operator.resources import ScalingMode, WorkerPoolSpec, read
from support.paths import ROOT
from support.world import World

if TYPE_CHECKING:
    import asyncpg

FOLDER = ROOT / "examples" / "scaling"


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((FOLDER / name).read_text()))


@pytest.mark.parametrize("name", sorted(path.name for path in FOLDER.iterdir()))
def test_pool_is_one_that_the_operator_serves_and_that_others_scale_by_name(name: str) -> None:
    pool, *scalers = documents(name)
    metadata = {"namespace": "default", "uid": "u", "generation": 1, **pool["metadata"]}

    resource = read(WorkerPoolSpec, {**pool, "metadata": metadata}, cluster="c")

    assert not isinstance(resource.spec, InvalidSpec)
    mode = ScalingMode.EXTERNAL if scalers else ScalingMode.OPERATOR
    assert resource.spec.autoscaling.mode is mode
    for scaler in scalers:
        reference = {"apiVersion": pool["apiVersion"], "kind": "WorkerPool", "name": pool["metadata"]["name"]}
        assert scaler["spec"]["scaleTargetRef"] == reference


async def test_query_of_keda_counts_what_is_due_and_runs(pool: asyncpg.Pool[asyncpg.Record]) -> None:
    _, scaled_object = documents("keda.yaml")
    (trigger,) = scaled_object["spec"]["triggers"]
    world = World.over(pool)
    assert await pool.fetchval(trigger["metadata"]["query"]) == 0

    for queue in ("default", "default", "paused"):
        await world.pending(tenant="billing", queue=queue)
    await world.pending()
    await pool.execute("INSERT INTO scheduler_queues (tenant, queue, paused_at) VALUES ('billing', 'paused', now())")

    assert await pool.fetchval(trigger["metadata"]["query"]) == 2
