"""Plain functions in threads and processes.

Invariant: a job keeps its slot until its function has returned, since neither a thread nor another process can be
stopped in the middle; a cancellation is passed on only then.
"""

import asyncio
import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextvars import copy_context
from functools import partial
from typing import Any, assert_never

from pg_scheduler.tasks import SyncExecutor


class Offloading:
    """The pools of one worker, each made when a job first needs it."""

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._threads: ThreadPoolExecutor | None = None
        self._processes: ProcessPoolExecutor | None = None

    async def run(self, where: SyncExecutor, call: Callable[[], Any]) -> Any:
        """What the call returns or raises, once it has ended."""
        match where:
            case "thread":
                return await _ended(self._thread_pool(), partial(copy_context().run, call))
            case "process":
                return await self._run_in_process(call)
            case _:
                assert_never(where)

    def close(self) -> None:
        """Let what runs end by itself, and start nothing more."""
        for pool in (self._threads, self._processes):
            if pool is not None:
                pool.shutdown(wait=False, cancel_futures=True)
        self._threads = self._processes = None

    async def _run_in_process(self, call: Callable[[], Any]) -> Any:
        pool = self._process_pool()
        try:
            return await _ended(pool, call)
        except BrokenProcessPool:
            if self._processes is pool:  # a process died: the next job gets a new pool
                self._processes = None
                pool.shutdown(wait=False)
            raise

    def _thread_pool(self) -> ThreadPoolExecutor:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(self._slots, thread_name_prefix="pg_scheduler job")
        return self._threads

    def _process_pool(self) -> ProcessPoolExecutor:
        if self._processes is None:
            # Not by fork, which would copy threads' locks, the loop and open connections into the child.
            count = min(self._slots, os.cpu_count() or 1)
            self._processes = ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("spawn"))
        return self._processes


async def _ended(pool: Executor, call: Callable[[], Any]) -> Any:
    future = asyncio.get_running_loop().run_in_executor(pool, call)
    stop: asyncio.CancelledError | None = None
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError as error:
            stop = error
    if stop is not None and future.exception() is not None:
        raise stop from future.exception()
    return future.result()
