"""Packages that a command needs beyond the base install.

Invariant: a missing package ends in one line to paste, never in a traceback.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from pg_scheduler.errors import PgSchedulerError

if TYPE_CHECKING:
    from collections.abc import Iterator

OUR_PACKAGES = frozenset({"pg_scheduler", "pg_scheduler_operator"})


class MissingExtra(PgSchedulerError):
    """The command needs a package that comes with an extra of this distribution."""

    code = "PGS-007"

    def __init__(self, extra: str, package: str) -> None:
        super().__init__(
            f"this command needs the package {package}, which is not installed",
            fix=f"pip install 'pgscheduler[{extra}]'",
        )


@contextmanager
def needs_extra(extra: str) -> Iterator[None]:
    """Import what ``extra`` brings inside this block.

    Raises:
        MissingExtra: a package of somebody else is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as missing:
        package = (missing.name or "").partition(".")[0]
        if package in OUR_PACKAGES:
            raise
        raise MissingExtra(extra, package) from missing
