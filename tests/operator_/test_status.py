from __future__ import annotations

from copy import deepcopy
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pg_scheduler_operator.resources import Kind, ScheduledJobSpec, ScheduledJobStatus, read
from pg_scheduler_operator.status import (
    Fact,
    Notice,
    Reason,
    conditions,
    is_urgent,
    live_fact,
    merged,
    patch,
)
from support.operator_world import NOW, body, scheduled_job

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LATER = NOW + timedelta(minutes=5)


def status(*facts: Fact, live: Mapping[str, Any] | None = None, generation: int = 1, now: Any = NOW) -> dict[str, Any]:
    live = live or {}
    told = conditions(facts, live=live, generation=generation, now=now)
    return merged(live, ScheduledJobStatus(observed_generation=generation, conditions=told))


def test_transition_time_stays_while_the_status_stays() -> None:
    before = status(Fact("Ready", True, Reason.ACCEPTED))

    after = status(Fact("Ready", True, Reason.SPEC, "other words"), live=before, generation=2, now=LATER)

    assert after["conditions"][0]["lastTransitionTime"] == "2026-11-24T12:00:00Z"
    assert (after["conditions"][0]["reason"], after["conditions"][0]["observedGeneration"]) == ("Spec", 2)


def test_transition_time_moves_with_the_status() -> None:
    before = status(Fact("Ready", True, Reason.ACCEPTED))

    after = status(Fact("Ready", None, Reason.ACCEPTED), live=before, now=LATER)

    assert after["conditions"][0]["lastTransitionTime"] == "2026-11-24T12:05:00Z"
    assert after["conditions"][0]["status"] == "Unknown"


def test_what_others_wrote_stays() -> None:
    foreign = {"type": "Theirs", "status": "True", "reason": "R", "message": "", "lastTransitionTime": "x"}
    live = {"conditions": [foreign], "theirs": 1, "jobID": "old"}

    after = status(Fact("Ready", True, Reason.ACCEPTED), live=live)

    assert [condition["type"] for condition in after["conditions"]] == ["Ready", "Theirs"]
    assert after["theirs"] == 1
    assert "jobID" not in after


def test_message_is_cut_to_what_the_schema_allows() -> None:
    assert len(status(Fact("Ready", True, Reason.ACCEPTED, "x" * 5000))["conditions"][0]["message"]) == 1024


def test_condition_of_an_unknown_reason_is_not_carried_over() -> None:
    live = {"conditions": [{"type": "Ready", "status": "True", "reason": "Elsewhere", "message": ""}]}
    otherwise = Fact("Ready", None, Reason.NO_RUN_YET)

    assert live_fact(live, "Ready", otherwise) == otherwise


def test_urgent_is_what_somebody_may_wait_for() -> None:
    before = status(Fact("Ready", True, Reason.ACCEPTED))

    assert is_urgent({}, before)
    assert is_urgent(before, {**before, "observedGeneration": 2})
    assert is_urgent(before, status(Fact("Ready", False, Reason.ACCEPTED)))
    assert not is_urgent(before, {**before, "attempt": 2})
    assert not is_urgent(before, status(Fact("Ready", True, Reason.SPEC, "other words")))


def test_first_write_is_a_merge_patch_of_the_whole() -> None:
    assert patch({}, {"state": "Pending"}) == {"status": {"state": "Pending"}}


def test_later_write_refuses_to_overwrite_conditions_that_it_has_not_seen() -> None:
    steps = patch({"conditions": [1], "a": 1}, {"conditions": [2], "a": 1})

    assert steps == [
        {"op": "test", "path": "/status/conditions", "value": [1]},
        {"op": "add", "path": "/status/conditions", "value": [2]},
    ]


def apply(steps: Sequence[Mapping[str, Any]], live: dict[str, Any]) -> dict[str, Any]:
    """The steps of a JSON patch that we use, as RFC 6902 has them, on members of an object."""
    result = deepcopy(live)
    for step in steps:
        name = step["path"].removeprefix("/status/")
        match step["op"]:
            case "test":
                assert result[name] == step["value"]
            case "add":
                result[name] = step["value"]
            case "remove":
                del result[name]
            case operation:
                pytest.fail(f"not a step of ours: {operation}")
    return result


STATUSES = st.dictionaries(
    st.sampled_from(["conditions", "attempt", "state", "demand"]),
    st.integers(0, 2) | st.lists(st.integers(0, 2)),
    min_size=1,
)


@given(live=STATUSES, desired=STATUSES)
def test_patch_leads_from_one_status_to_the_other(live: dict[str, Any], desired: dict[str, Any]) -> None:
    steps = patch(live, desired)

    assert isinstance(steps, list)
    assert apply(steps, live) == desired


def test_same_notice_has_the_same_name_and_another_one_another() -> None:
    meta = read(ScheduledJobSpec, body(Kind.SCHEDULED_JOB, scheduled_job()), cluster="c").meta

    def name(reason: Reason, once: str) -> str:
        return Notice(about=meta, type="Warning", reason=reason, note="", once=once).name

    assert name(Reason.UNKNOWN_TASK, "1") == name(Reason.UNKNOWN_TASK, "1")
    assert len({name(Reason.UNKNOWN_TASK, "1"), name(Reason.UNKNOWN_TASK, "2"), name(Reason.INVALID_SPEC, "1")}) == 3
    assert name(Reason.UNKNOWN_TASK, "1").startswith("x.")
