"""The tasks of the example manifests: `pgscheduler worker examples/tasks.py` runs them.

A manifest names a task by the key given here, never by module and function: the two can be renamed apart.
"""

import asyncio
import platform
import shutil

from pg_scheduler import task

SLICE = 10_000


@task(name="examples.count_primes")
async def count_primes(below: int) -> int:
    """Count primes in slices, and let other jobs of this worker run between two of them."""
    sieve = bytearray([1]) * below
    sieve[:2] = bytes(min(below, 2))
    for number in range(2, int(below**0.5) + 1):
        if sieve[number]:
            sieve[number * number :: number] = bytes(len(range(number * number, below, number)))
        await asyncio.sleep(0)
    count = 0
    for start in range(0, below, SLICE):
        count += sum(sieve[start : start + SLICE])
        await asyncio.sleep(0.01)
    print(f"{count} primes below {below}")
    return count


@task(name="examples.disk_space")
async def disk_space(path: str = "/") -> float:
    """Say how much room is left on a disk."""
    usage = await asyncio.to_thread(shutil.disk_usage, path)
    free = usage.free / 2**30
    print(f"{free:.1f} GiB free of {usage.total / 2**30:.1f} at {path}")
    return free


@task(name="examples.nightly_report")
async def nightly_report(title: str) -> None:
    """Say which machine this worker runs on."""
    print(f"{title}: {platform.node()}, {platform.system()} {platform.machine()}, Python {platform.python_version()}")
