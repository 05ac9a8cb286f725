"""The queue of keys, and the loop that brings what stands to what is wanted. It knows nothing of kopf."""

from pg_scheduler_operator.reconciler.loops import Loop, repeat, retry, until_one_ends
from pg_scheduler_operator.reconciler.queue import KeyQueue
from pg_scheduler_operator.reconciler.sweep import Sweeper
from pg_scheduler_operator.reconciler.turns import Reconciler

__all__ = ["KeyQueue", "Loop", "Reconciler", "Sweeper", "repeat", "retry", "until_one_ends"]
