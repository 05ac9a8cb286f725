"""Which object is meant: the words of a command line.

Invariant: kinds are told by the names that kubectl takes for them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pg_scheduler.errors import InvalidArgument
from pg_scheduler_operator.resources import GROUP, Kind

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

PLURALS: Final = {"pjob": Kind.PERIODIC_JOB.plural, "sjob": Kind.SCHEDULED_JOB.plural, "wpool": Kind.WORKER_POOL.plural}
"""The short name of each kind, and the one in URLs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """One object of the namespace that kubectl looks at.

    Attributes:
        short: ``pjob``, ``sjob`` or ``wpool``.
    """

    short: str
    name: str

    def __str__(self) -> str:
        return f"{self.short}/{self.name}"

    @property
    def in_full(self) -> str:
        """As kubectl takes it for no other group's object."""
        return f"{resource_of(self.short)}/{self.name}"


def resource_of(short: str) -> str:
    """The kind's name with its group, which no other CRD can have."""
    return f"{PLURALS[short]}.{GROUP}"


def parse(words: Sequence[str], shorts: Collection[str]) -> Reference:
    """``TYPE/NAME`` or ``TYPE NAME``; where only one kind is meant, ``NAME`` is enough.

    Raises:
        InvalidArgument: it names no object, or one of another kind.
    """
    match [part for word in words for part in word.split("/")]:
        case [name] if len(shorts) == 1 and name:
            return Reference(short=next(iter(shorts)), name=name)
        case [kind, name] if name and (short := _short_of(kind)) in shorts:
            return Reference(short=short, name=name)
        case _:
            raise InvalidArgument(
                f"{' '.join(words)[:80]!r} names none of {', '.join(sorted(shorts))}",
                fix=f"write it as {min(shorts)}/NAME",
            )


def _short_of(kind: str) -> str:
    text = kind.lower().removesuffix(f".{GROUP}")
    return next((short for short, plural in PLURALS.items() if text in {short, plural, plural[:-1]}), "")
