"""The cluster's objects in the simulation of files."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from pg_scheduler_operator.cli.scenes import Wish, namespaces
from pg_scheduler_operator.cli.simulating import play
from pg_scheduler_operator.plugin.simulated import declared
from support.live_objects import conditions, pjob, pool, sjob

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


def test_objects_are_simulated_but_for_those_that_have_ended_or_cannot_be_used() -> None:
    hourly = pjob("hourly", spec={"schedule": {"intervalSeconds": 3600}})
    hourly["metadata"]["annotations"] = {"pgscheduler.io/expected-duration-seconds": "90"}
    typo = pjob("typo", spec={"schedule": {"cron": ["0 25 * * *"]}})
    ended = sjob("ended", conditions=conditions(Finished=(True, "Complete")))

    found, refused = namespaces(
        declared([hourly, typo, ended, sjob("next"), pool()]), Wish(begins_at=NOW, ends_at=NOW + timedelta(hours=3))
    )
    (played,) = play(found, runs=True, occupancy=False)

    assert [each.key.name for each in refused if each.key] == ["typo"]
    assert {run.schedule for run in played.runs} == {"billing/hourly", "billing/next (once)"}
    assert next(
        run.ended_at - run.started_at
        for run in played.runs
        if run.schedule == "billing/hourly" and run.ended_at and run.started_at
    ) == timedelta(seconds=90)
    assert played.slots == 20 * 25
