"""Engine tests own tasks and threads; each test ends what it started."""

import pytest


@pytest.fixture(autouse=True)
def _ends_what_it_started(no_leaks: None) -> None:
    """Set up first, so torn down last."""
