"""The stepper for as long as one likes: ``make chaos-steps SEED=… STEPS=…``.

Runs of at most ``EPISODE_STEPS`` steps, each over a database of its own and with the next seed: safety, then liveness.
The first that breaks an invariant ends it, exit code 1, and says how to repeat it.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import time
import traceback
from collections import Counter
from typing import TYPE_CHECKING

from support.databases import NEWEST, PgServer, started
from support.stepper import Stepper
from support.steps import take_steps

if TYPE_CHECKING:
    from collections.abc import Sequence

EPISODE_STEPS = 3000
"""A run of the tests is as long, so that what it says repeats it."""


async def episode(dsn: str, seed: int, steps: int) -> Counter[str]:
    async with Stepper.over(dsn, seed) as stepper:
        await take_steps(stepper, steps)
        await stepper.drain()
        return stepper.judge.counts


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="make chaos-steps", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=100_000)
    options = parser.parse_args(arguments)
    logging.disable(logging.CRITICAL)
    with started(NEWEST) as server:
        return _run(server, options.seed, options.steps)


def _run(server: PgServer, seed: int, steps: int) -> int:
    done, began, counts = 0, time.monotonic(), Counter[str]()
    while done < steps:
        size = min(EPISODE_STEPS, steps - done)
        dsn = server.create()
        try:
            counts += asyncio.run(episode(dsn, seed, size))
        except Exception:  # noqa: BLE001  whatever it is, it is the finding
            traceback.print_exc()
            return 1
        server.drop(dsn)
        done, seed = done + size, seed + 1
        _say(f"{done} steps, {done / (time.monotonic() - began):.0f}/s, next seed {seed}")
    _say("changes judged: " + ", ".join(f"{name} {number}" for name, number in sorted(counts.items())))
    return 0


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
