"""Keys and digests are the same in every process: Python's own hash of a text is not."""

from __future__ import annotations

import os
import subprocess
import sys

_SCRIPT = """
from datetime import UTC, datetime
from pg_scheduler import Unique, periodic, task
from pg_scheduler._domain.jobs import NewJob
from pg_scheduler._domain.options import unique_key
from pg_scheduler._domain.rules import Bounds
from pg_scheduler.periodic import registry
from pg_scheduler.tasks import key_of
from pg_scheduler_operator.resources.scheduled_jobs import ScheduledJobSpec

@task
async def bill(): ...

@periodic(cron="0 3 * * *", timezone="Europe/Berlin")
async def sweep(): ...

instant = datetime(2026, 1, 1, tzinfo=UTC)
job = NewJob("i", "t", "q", "shop:bill", "n", '{"args": [1]}', instant, 5, 0, None)
wish = {"template": {"spec": {"task": "shop.bill", "kwargs": {"b": 1, "a": 2}}}}
print(key_of(bill))
print(*registry.all())
print(unique_key(Unique(by=("task", "args", "queue")), job).key)
print(Bounds(jitter_seconds=600).due_at(instant, 7))
print(ScheduledJobSpec.model_validate(wish).digest)
"""


def test_keys_and_digests_do_not_depend_on_the_hash_seed() -> None:
    first, second = (_told(seed) for seed in ("1", "5"))  # a set of three words has another order

    assert len(first) == 5
    assert first == second


def _told(seed: str) -> list[str]:
    env = os.environ | {"PYTHONHASHSEED": seed}
    told = subprocess.run([sys.executable, "-c", _SCRIPT], env=env, capture_output=True, text=True, check=True)
    return told.stdout.splitlines()
