"""Tasks for other processes, which import them by this module's name."""

from __future__ import annotations

import os

from pg_scheduler import task


@task(executor="process", keep_result=True)
def tell_process(n: int) -> list[int]:
    return [n, os.getpid()]


@task(executor="process")
def die() -> None:
    os._exit(1)
