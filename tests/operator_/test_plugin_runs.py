"""ScheduledJobs that the plugin makes, and what it changes to suspend and resume."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pg_scheduler.errors import IllegalTransition, InvalidArgument
from pg_scheduler_operator.plugin.runs import backfill, extra_run, run_again, tick_name
from pg_scheduler_operator.plugin.suspension import resuming, suspending
from pg_scheduler_operator.resources import RESUME_REQUESTED_AT
from support.live_objects import conditions, pjob, sjob

Body = dict[str, Any]

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
TICK = datetime(2026, 11, 24, 2, tzinfo=UTC)
ENDED = conditions(Finished=(True, "Failed"))
HALTED = conditions(Suspended=(True, "SuspendedAfterFailures"))
LONG = st.builds("{}{}c".format, st.just("a" * 44), st.text("ab-.", max_size=18))
NAMES = LONG | st.builds("{}{}".format, st.text("ab-.", max_size=62), st.just("c")).filter(
    lambda name: name[0].isalnum()
)


def test_extra_run_names_its_periodic_job() -> None:
    assert extra_run(pjob()) == {
        "apiVersion": "pgscheduler.io/v1alpha1",
        "kind": "ScheduledJob",
        "metadata": {
            "generateName": "nightly-",
            "namespace": "billing",
            "labels": {"pgscheduler.io/created-by": "trigger", "pgscheduler.io/periodic-job": "nightly"},
        },
        "spec": {"periodicJobRef": {"name": "nightly"}},
    }


def test_run_again_copies_what_to_do_and_not_when_or_whether() -> None:
    kept = {"ttlSecondsAfterFinished": 60, "readyWhen": "Complete", "startingDeadlineSeconds": 9}
    left = {
        "runAt": "2026-11-24T02:00:00Z",
        "suspend": True,
        "cancel": True,
        "idempotencyKey": "k",
        "conflictPolicy": "Raise",
    }
    old = sjob(spec={**kept, **left}, template={"args": [1]}, conditions=ENDED)

    made = run_again(old)

    assert made["metadata"] == {
        "generateName": "once-",
        "namespace": "billing",
        "labels": {"pgscheduler.io/created-by": "rerun"},
    }
    assert made["spec"] == {**kept, "template": old["spec"]["template"]}


def test_run_again_of_an_extra_run_keeps_to_its_periodic_job() -> None:
    made = run_again(sjob(spec={"periodicJobRef": {"name": "nightly"}}, conditions=ENDED))

    assert made["metadata"]["labels"]["pgscheduler.io/periodic-job"] == "nightly"
    assert made["spec"] == {"periodicJobRef": {"name": "nightly"}}


def test_job_that_has_not_ended_is_not_run_again() -> None:
    with pytest.raises(IllegalTransition, match=r"sjob/once has not ended\. it is Running"):
        run_again(sjob(state="Running"))


def test_backfill_makes_what_is_not_there() -> None:
    plan = backfill(pjob(), [TICK, TICK + timedelta(days=1)], {"nightly-20261124t020000z"})

    assert [each["metadata"]["name"] for each in plan.existing] == ["nightly-20261124t020000z"]
    (made,) = plan.missing
    assert made["metadata"]["name"] == "nightly-20261125t020000z"
    assert made["spec"] == {"periodicJobRef": {"name": "nightly"}, "runAt": "2026-11-25T02:00:00Z"}


@given(name=NAMES, other=NAMES, seconds=st.integers(0, 10**8), later=st.integers(0, 10**8))
def test_name_of_a_tick_is_its_own_and_fits(name: str, other: str, seconds: int, later: int) -> None:
    ticks = [TICK + timedelta(seconds=each) for each in (seconds, later)]

    one, two = tick_name(name, ticks[0]), tick_name(other, ticks[1])

    assert max(len(one), len(two)) <= 63
    assert one[-1].isalnum()
    assert (one == two) == (name == other and seconds == later)


@given(name=NAMES)
def test_generated_name_leaves_room_for_what_the_api_server_adds(name: str) -> None:
    prefix = extra_run(pjob(name))["metadata"]["generateName"]

    assert len(prefix) <= 58
    assert prefix[-2].isalnum()


@pytest.mark.parametrize(
    ("body", "reason", "patch"),
    [
        (pjob(), "", {"spec": {"suspend": True}}),
        (pjob(), "stock-taking", {"spec": {"suspend": True, "suspendReason": "stock-taking"}}),
        (pjob(spec={"suspend": True, "suspendReason": "a"}), "b", {"spec": {"suspend": True, "suspendReason": "b"}}),
        (pjob(spec={"suspend": True, "suspendReason": "a"}), "a", None),
        (pjob(spec={"suspend": True, "suspendReason": "a"}), "", None),
        (pjob(spec={"suspend": False, "suspendReason": "a"}), "", {"spec": {"suspend": True, "suspendReason": None}}),
        (sjob(), "", {"spec": {"suspend": True}}),
    ],
)
def test_suspending_changes_what_is_not_so(body: Body, reason: str, patch: Body | None) -> None:
    assert suspending(body, reason) == patch


@pytest.mark.parametrize(
    ("body", "reason", "error", "words"),
    [
        (sjob(), "why", InvalidArgument, "a ScheduledJob keeps no reason"),
        (pjob(), "x" * 257, InvalidArgument, "at most 256"),
        (sjob(state="Failed", conditions=ENDED), "", IllegalTransition, "not pending. it is Failed"),
        (sjob(state="Running"), "", IllegalTransition, "not pending. it is Running"),
    ],
)
def test_suspending_refuses_what_cannot_be(body: Body, reason: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        suspending(body, reason)


@pytest.mark.parametrize(
    ("body", "patch"),
    [
        (pjob(), None),
        (pjob(spec={"suspend": True}), {"spec": {"suspend": False}}),
        (pjob(spec={"suspend": True, "suspendReason": "a"}), {"spec": {"suspend": False, "suspendReason": None}}),
        (sjob(spec={"suspend": True}), {"spec": {"suspend": False}}),
        (pjob(conditions=HALTED), {"metadata": {"annotations": {RESUME_REQUESTED_AT: "2026-11-24T12:00:00Z"}}}),
    ],
)
def test_resuming_takes_back_what_holds(body: Body, patch: Body | None) -> None:
    assert resuming(body, now=NOW) == patch


def test_resuming_asks_later_than_the_halt_by_a_clock_that_is_behind() -> None:
    behind = datetime(2026, 11, 24, 5, 59, tzinfo=UTC)

    patch = resuming(pjob(conditions=HALTED), now=behind)

    assert patch == {"metadata": {"annotations": {RESUME_REQUESTED_AT: "2026-11-24T06:00:01Z"}}}
