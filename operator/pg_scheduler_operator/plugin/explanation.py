"""Why an object does not run: the causes that are found, and the chain from the object to the workers.

Invariant: pure; there is always an answer, if only that nothing stands in the way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pg_scheduler_operator.plugin.causes import LOOKS
from pg_scheduler_operator.plugin.chain import chain_of
from pg_scheduler_operator.plugin.facts import namespace_of
from pg_scheduler_operator.plugin.picture import Cause, Finding

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pg_scheduler_operator.plugin.picture import Picture

_ALONE: Final = frozenset({Cause.ENDED, Cause.RUNNING, Cause.PERIODIC_JOB_MISSING})
"""Beside these no other cause means anything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """The answer.

    Attributes:
        findings: the first one is the answer; there is at least one.
        chain: the links from the object to the workers, and what each says.
    """

    object: str
    findings: Sequence[Finding]
    chain: Mapping[str, str]


def explain(picture: Picture) -> Explanation:
    """What stands in the way of an object, or that nothing does."""
    found = [finding for look in LOOKS[picture.short] if (finding := look(picture))]
    alone = [finding for finding in found if finding.cause in _ALONE][:1]
    return Explanation(
        object=f"{picture.name} in {namespace_of(picture.body)}",
        findings=alone or found or [_nothing(picture)],
        chain=chain_of(picture),
    )


def lines_of(explained: Explanation) -> list[str]:
    """The answer as text: the first line is what one asked for."""
    first, *others = explained.findings
    rows = [("fix", first.fix)]
    for finding in others:
        rows += [("also", finding.what), ("fix", finding.fix)]
    shown = [f"  {name + ':':<12}{text}" for name, text in [*rows, *explained.chain.items()] if text]
    return [f"{explained.object}: {first.what}", *shown]


def _nothing(picture: Picture) -> Finding:
    if picture.short == "wpool":
        return Finding(cause=Cause.NOTHING, what="it follows the demand: nothing holds it back")
    return Finding(
        cause=Cause.NOTHING,
        what="no object tells what holds it back: a worker should start it within seconds",
        fix="see the workers' logs, and whether their PGSCHEDULER_QUEUES names its queue;"
        " a queue that was paused by hand is seen in the database only",
    )
