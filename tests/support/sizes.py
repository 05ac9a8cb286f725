"""Two sizes of a test that proves the more the longer it runs: usually a few seconds, in full with ``make chaos``."""

from __future__ import annotations

import os

IN_FULL = os.environ.get("PGSCHEDULER_TEST_SIZE") == "full"


def sized(usual: int, full: int) -> int:
    """The figure of this run; ``full`` is the design's."""
    return full if IN_FULL else usual
