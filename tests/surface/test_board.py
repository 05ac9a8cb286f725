"""What the demo makes of statuses: states, runs, what is missing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pg_scheduler_operator.cli.board import Board, Expectation
from pg_scheduler_operator.cli.expectations import expectations_in
from pg_scheduler_operator.errors import InvalidManifest
from pg_scheduler_operator.resources import Key, Kind

if TYPE_CHECKING:
    from pathlib import Path

ONCE = Key(kind=Kind.SCHEDULED_JOB, namespace="default", name="once")
OFTEN = Key(kind=Kind.PERIODIC_JOB, namespace="default", name="often")
NIGHTLY = Key(kind=Kind.PERIODIC_JOB, namespace="default", name="nightly")


KEYS = {"once": ONCE, "often": OFTEN, "nightly": NIGHTLY}


def board_of(**runs: int) -> Board:
    return Board({KEYS[name]: Expectation(runs=number, task=f"task-of-{name}") for name, number in runs.items()})


def one_off(state: str) -> dict[str, Any]:
    return {"state": state, "jobID": "sj-1", "worker": "w1"}


def tick(number: int, state: str) -> dict[str, Any]:
    return {"lastRun": {"jobID": f"pj-{number}", "state": state}, "nextScheduleTimes": [f"t{number + 1}"]}


STALLED = {"conditions": [{"type": "Stalled", "status": "True", "reason": "InvalidSchedule", "message": "no hour 25"}]}


def test_new_board_misses_what_it_wants() -> None:
    board = board_of(once=1, often=3, nightly=0)
    board.apply(ONCE, {"state": "Pending"})
    board.apply(OFTEN, {"schedule": "every 3s"})

    assert board.missing == [
        "scheduledjob/once is Pending, not Complete",
        "periodicjob/often ran 0 of 3 times",
        "periodicjob/nightly has no status yet",
    ]
    assert not board.has_started
    assert not board.is_settled


def test_one_off_is_met_when_complete() -> None:
    board = board_of(once=1)
    board.apply(ONCE, one_off("Running"))
    assert board.has_started
    assert board.missing == ["scheduledjob/once is Running, not Complete"]

    board.apply(ONCE, one_off("Complete"))

    assert board.is_settled
    assert board.missing == []
    assert (board.runs, board.failed) == (1, 0)


def test_failed_one_off_is_settled_and_missing() -> None:
    board = board_of(once=1)

    board.apply(ONCE, one_off("Failed"))

    assert board.is_settled
    assert board.missing == ["scheduledjob/once is Failed, not Complete"]
    assert (board.runs, board.failed) == (1, 1)


def test_each_tick_counts_once() -> None:
    board = board_of(often=3)
    for number, state in [(1, "Running"), (1, "Complete"), (1, "Complete"), (2, "Failed"), (3, "Complete")]:
        board.apply(OFTEN, tick(number, state))

    assert (board.runs, board.failed) == (3, 1)
    assert board.missing == ["periodicjob/often ran 2 of 3 times"]
    assert not board.is_settled

    board.apply(OFTEN, tick(4, "Complete"))

    assert board.is_settled


def test_unknown_task_is_settled_and_missing_until_a_worker_knows_it() -> None:
    board = board_of(once=1, often=0)
    board.apply(ONCE, one_off("Pending"))
    board.apply(OFTEN, tick(1, "Complete"))

    board.mark_unknown({"task-of-once"})
    settled, missing = board.is_settled, board.missing
    board.mark_unknown(set())

    assert settled
    assert missing == ["scheduledjob/once waits: no worker knows the task task-of-once"]
    assert board.missing == ["scheduledjob/once is Pending, not Complete"]


def test_manifest_that_is_only_shown_is_met_once_it_is_accepted() -> None:
    board = board_of(nightly=0)
    settled_before = board.is_settled

    board.apply(NIGHTLY, {"nextScheduleTimes": ["2026-11-25T02:30:00+00:00"]})

    assert (settled_before, board.is_settled) == (False, True)
    assert board.missing == []


@pytest.mark.parametrize("key", [ONCE, OFTEN, NIGHTLY])
def test_refused_manifest_is_settled_and_missing(key: Key) -> None:
    board = Board({key: Expectation(runs=0)})

    board.apply(key, STALLED)

    assert board.is_settled
    assert board.missing == [f"{board.rows[0].name} was refused: InvalidSchedule: no hour 25"]


def test_row_is_told_once_for_each_state() -> None:
    board = board_of(often=3)

    told = [board.apply(OFTEN, status) is not None for status in (tick(1, "Running"), tick(1, "Running"))]

    assert told == [True, False]
    assert board.apply(OFTEN, tick(1, "Complete")) is not None
    assert board.apply(OFTEN, tick(2, "Complete")) is not None


def test_worker_of_an_older_tick_is_not_shown_for_a_newer_one() -> None:
    board = board_of(often=3)
    board.apply(OFTEN, tick(1, "Complete"))
    board.name_worker(OFTEN, "w1")
    assert board.rows[0].worker == "w1"

    board.apply(OFTEN, tick(2, "Complete"))

    assert board.rows[0].worker == ""


def scheduled(spec: str) -> str:
    return f"apiVersion: pgscheduler.io/v1alpha1\nkind: ScheduledJob\nmetadata: {{name: x}}\nspec: {spec}\n"


def periodic(spec: str) -> str:
    return scheduled(spec).replace("ScheduledJob", "PeriodicJob")


@pytest.mark.parametrize(
    ("manifest", "wanted"),
    [
        (scheduled("{}"), 1),
        (scheduled('{runAt: "2020-01-01T00:00:00Z"}'), 1),
        (scheduled('{runAt: "2999-01-01T00:00:00Z"}'), 0),
        (scheduled('{runAt: "tomorrow"}'), 1),
        (scheduled("{suspend: true}"), 0),
        (scheduled("{cancel: true}"), 0),
        (scheduled("[]"), 1),
        (periodic("{schedule: {intervalSeconds: 3}}"), 3),
        (periodic("{schedule: {intervalSeconds: 15}}"), 3),
        (periodic("{schedule: {intervalSeconds: 16}}"), 0),
        (periodic("{schedule: {intervalSeconds: 3}, suspend: true}"), 0),
        (periodic('{schedule: {cron: ["* * * * *"]}}'), 0),
        (periodic("{schedule: daily}"), 0),
    ],
)
def test_only_what_can_happen_in_time_is_wanted(tmp_path: Path, manifest: str, wanted: int) -> None:
    (tmp_path / "x.yaml").write_text(manifest)
    (tmp_path / "x.status.yaml").write_text(manifest.replace("name: x", "name: not-a-expectation"))

    assert [expectation.runs for expectation in expectations_in(tmp_path, within_seconds=60).values()] == [wanted]


def test_folder_without_manifests_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidManifest, match="no manifests of ours"):
        expectations_in(tmp_path, within_seconds=60)
