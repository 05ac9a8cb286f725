"""Numbers and what they are held against.

Invariant: a ratio is of medians over pairs measured in turn (ours, bare, ours, bare, …), so that what the machine does
meanwhile falls on both sides; percentiles are of all samples of a side.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from statistics import median
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

Subject = Literal["ratio", "ours"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """A bound on the ratio, or on our own figure in its own unit."""

    of: Subject = "ratio"
    at_least: float | None = None
    at_most: float | None = None

    @property
    def bounds(self) -> str:
        """The bounds as a person writes them."""
        low = "" if self.at_least is None else f"≥ {self.at_least:g}"
        high = "" if self.at_most is None else f"≤ {self.at_most:g}"
        return " ".join(filter(None, (low, high)))

    def __str__(self) -> str:
        return f"{self.of} {self.bounds}"

    def is_met(self, value: float) -> bool:
        """Whether the value lies within both bounds."""
        low = -math.inf if self.at_least is None else self.at_least
        high = math.inf if self.at_most is None else self.at_most
        return low <= value <= high


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One line of the result: ``ratio`` is ours / bare; a figure without a goal is there to be read."""

    scenario: str
    case: str
    unit: str
    ours: float
    bare: float | None
    ratio: float | None
    goal: Goal | None
    samples: int
    spread: float | None = None
    """(largest - smallest) / median of ours over the pairs: how far the machine lets the ratio be believed."""

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; None without one."""
        if self.goal is None:
            return None
        value = self.ratio if self.goal.of == "ratio" else self.ours
        return value is not None and self.goal.is_met(value)

    def record(self) -> dict[str, Any]:
        """As it goes into JSON."""
        return asdict(self) | {"goal": self.goal and str(self.goal), "met": self.met}


def compared(
    scenario: str, case: str, unit: str, ours: Sequence[float], bare: Sequence[float], goal: Goal | None = None
) -> Figure:
    """The figure of pairs: medians of each side, and their ratio."""
    middle, other = median(ours), median(bare)
    return Figure(
        scenario=scenario,
        case=case,
        unit=unit,
        ours=middle,
        bare=other,
        ratio=middle / other if other else None,
        goal=goal,
        samples=len(ours),
        spread=(max(ours) - min(ours)) / middle if middle and len(ours) > 1 else None,
    )


def alone(scenario: str, case: str, unit: str, ours: float, goal: Goal | None = None, *, samples: int = 1) -> Figure:
    """A figure that has no bare side, such as a count of mistakes."""
    return Figure(scenario=scenario, case=case, unit=unit, ours=ours, bare=None, ratio=None, goal=goal, samples=samples)


def percentile(samples: Sequence[float], percent: float) -> float:
    """The smallest sample that at least ``percent`` of all do not exceed; samples must not be empty."""
    ranked = sorted(samples)
    return ranked[max(0, math.ceil(len(ranked) * percent / 100) - 1)]


def percentile_figure(
    scenario: str,
    case: str,
    percent: float,
    ours: Sequence[float],
    bare: Sequence[float],
    goal: Goal | None = None,
) -> Figure:
    """The figure of a percentile in milliseconds, over all samples of each side."""
    middle, other = percentile(ours, percent), percentile(bare, percent)
    return Figure(
        scenario=scenario,
        case=f"{case}, p{percent:g}",
        unit="ms",
        ours=middle,
        bare=other,
        ratio=middle / other if other > 0 else None,
        goal=goal,
        samples=len(ours),
    )
