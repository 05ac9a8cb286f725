"""What makes something else of arguments and results before they are stored: encryption, for instance."""

from typing import Protocol


class PayloadCodec(Protocol):
    """What ``Scheduler(payload_codec=…)`` takes: two functions of bytes, the second of which undoes the first.

    They are called on the event loop, once for each job, and may be called in several threads at a time where several
    schedulers share them. What they raise is told by its class alone, since its text may hold what they hide.
    """

    def encode(self, data: bytes, /) -> bytes:
        """What is stored of ``data``, which is JSON in ASCII; it may differ each time."""
        ...

    def decode(self, data: bytes, /) -> bytes:
        """What ``encode`` was given; raises where it cannot tell, so that a wrong key is no wrong argument."""
        ...
