"""What ``import pg_scheduler`` offers is a promise: it changes here first."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

import pytest

import pg_scheduler

if TYPE_CHECKING:
    from collections.abc import Iterator

EXPORTED = {
    "Cancel",
    "ConflictResolution",
    "Fail",
    "JobContext",
    "JobFilter",
    "JobInfo",
    "JobPriority",
    "JobSpec",
    "JobStatus",
    "PayloadCodec",
    "PollingConfig",
    "QueueInfo",
    "RetryPolicy",
    "ScheduleInfo",
    "ScheduleLedger",
    "Scheduler",
    "Snooze",
    "Unique",
    "VacuumConfig",
    "VacuumPolicy",
    "VacuumTrigger",
    "periodic",
    "task",
}


def public_objects() -> Iterator[tuple[str, object]]:
    for name in sorted(EXPORTED):
        exported = getattr(pg_scheduler, name)
        yield name, exported
        if inspect.isclass(exported):
            own = [(member, value) for member, value in vars(exported).items() if not member.startswith("_")]
            yield from ((f"{name}.{member}", value) for member, value in own if inspect.isroutine(value))


def test_exported_names_are_the_promised_ones() -> None:
    assert set(pg_scheduler.__all__) == EXPORTED
    assert all(hasattr(pg_scheduler, name) for name in EXPORTED)


@pytest.mark.parametrize("thing", [pytest.param(thing, id=name) for name, thing in public_objects()])
def test_public_object_has_a_docstring(thing: object) -> None:
    assert inspect.getdoc(thing)
