"""Names of jobs whose callers give none.

Invariant: they are made here and not by the database, so that a submission whose answer was lost can be repeated;
ordered by time, so that the index grows at its end. Nothing is kept between two calls: a forked process makes others.
"""

import os
import time
from collections.abc import Iterator

CHANCE_BYTES = 8
NUMBERS = 2**12
"""Parts of a millisecond that an id tells apart (RFC 9562, section 6.2, method 3)."""

_VARIANT = bytes(128 | byte & 63 for byte in range(256))
"""Every byte with the first two bits of a UUID's variant."""


def new_job_id() -> str:
    """A UUID of version 7."""
    (job_id,) = new_job_ids(1)
    return job_id


def new_job_ids(count: int) -> Iterator[str]:
    """As many of them, in rising order: milliseconds, the part of one, then 62 bits of chance.

    A call for the time and the chance of each would take two thirds of what making one takes: the later ones count on
    from the first.
    """
    first, chance = time.time_ns() * NUMBERS // 1_000_000, bytearray(os.urandom(CHANCE_BYTES * count))
    chance[::CHANCE_BYTES] = chance[::CHANCE_BYTES].translate(_VARIANT)
    digits = chance.hex()
    for number in range(count):
        stamp, at = f"{first + number:015x}", 2 * CHANCE_BYTES * number
        yield f"{stamp[:8]}-{stamp[8:12]}-7{stamp[12:]}-{digits[at : at + 4]}-{digits[at + 4 : at + 16]}"
