"""Schedules on a virtual clock: what becomes of each planned instant."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pg_scheduler._domain.policies import Policy
from pg_scheduler.errors import InvalidArgument, SimulationTooLarge
from pg_scheduler.job_priority import JobPriority
from pg_scheduler.recurrence import Bounds, cron, every
from pg_scheduler.simulation import (
    Edit,
    Fleet,
    Happening,
    Outage,
    Resume,
    Run,
    Scene,
    SimulatedJob,
    SimulatedSchedule,
    Suspend,
    Trace,
    definition,
    simulate,
    virtual,
    watch,
)
from pg_scheduler.simulation import (
    runs as runs_module,
)

if TYPE_CHECKING:
    from pg_scheduler._domain.policies import Overlap
    from pg_scheduler.recurrence import Rule

BEGIN = datetime(2026, 3, 7, tzinfo=UTC)
MINUTELY = cron("* * * * *")


def at(minutes: float) -> datetime:
    return BEGIN + timedelta(minutes=minutes)


def schedule(
    name: str = "a",
    rule: Rule = MINUTELY,
    *,
    seconds: Any = 1.0,
    fails: Any = False,
    overlap: Overlap = "skip",
    bounds: Bounds | None = None,
    priority: JobPriority = JobPriority.NORMAL,
    max_retries: int = 0,
    **policy: Any,
) -> SimulatedSchedule:
    wanted = definition(
        name,
        rule,
        policy=Policy(overlap=overlap, **policy),
        bounds=bounds,
        priority=priority,
        max_retries=max_retries,
    )
    return SimulatedSchedule(definition=wanted, takes_seconds=seconds, fails=fails)


def played(
    *schedules: SimulatedSchedule, minutes: float, fleet: Fleet | None = None, happenings: tuple[Happening, ...] = ()
) -> Trace:
    return simulate(
        Scene(begins_at=BEGIN, ends_at=at(minutes), schedules=schedules, fleet=fleet or Fleet(), happenings=happenings)
    )


def minute(instant: datetime | None) -> float | None:
    return None if instant is None else round((instant - BEGIN).total_seconds() / 60, 2)


def told(trace: Trace) -> list[tuple[float | None, str, float | None, float | None]]:
    return [(minute(run.planned_at), run.outcome, minute(run.started_at), minute(run.ended_at)) for run in trace.runs]


def passed(trace: Trace) -> list[tuple[str, float | None, float | None, int]]:
    return [(each.outcome, minute(each.first_at), minute(each.last_at), each.ticks) for each in trace.ranges]


def test_each_tick_runs_on_its_instant() -> None:
    trace = played(schedule(seconds=6), minutes=3)

    assert told(trace) == [(1, "ran", 1, 1.1), (2, "ran", 2, 2.1), (3, "open", 3, None)]
    assert trace.schedules["a"].ledger.planned == 3


@pytest.mark.parametrize(
    ("overlap", "outcomes"),
    [
        ("allow", [(1, "ran", 1, 3.5), (2, "ran", 2, 4.5), (3, "ran", 3, 5.5), (4, "open", 4, None)]),
        ("skip", [(1, "ran", 1, 3.5), (2, "skipped_overlap", None, 2), (3, "skipped_overlap", None, 3)]),
        (
            "queue",
            [(1, "ran", 1, 3.5), (2, "open", 3.5, None), (3, "skipped_overlap", None, 3), (4, "open", None, None)],
        ),
        ("replace", [(1, "cancelled", 1, 2), (2, "cancelled", 2, 3), (3, "cancelled", 3, 4), (4, "cancelled", 4, 5)]),
    ],
)
def test_a_tick_meets_its_predecessor(overlap: Overlap, outcomes: list[tuple[float, str, float, float]]) -> None:
    trace = played(schedule(seconds=150, overlap=overlap), minutes=5.5 if overlap == "allow" else 5)

    assert told(trace)[: len(outcomes)] == outcomes


def test_a_run_as_long_as_its_period_does_not_overlap() -> None:
    assert played(schedule(seconds=60), minutes=60).schedules["a"].ledger.skipped_overlap == 0
    assert played(schedule(seconds=60.001), minutes=60).schedules["a"].ledger.skipped_overlap == 30


def test_a_predecessor_that_is_to_be_tried_again_is_open() -> None:
    def once(planned_at: datetime, attempt: int) -> bool:
        return planned_at == at(1) and attempt == 1

    skipped = played(schedule(fails=once, max_retries=1), minutes=2.5)
    queued = played(schedule(fails=once, max_retries=1, overlap="queue", seconds=30), minutes=4)
    replaced = played(schedule(fails=once, max_retries=1, overlap="replace", seconds=30), minutes=2.4)

    assert told(skipped) == [(1, "ran", 1, 2.03), (2, "skipped_overlap", None, 2)]
    assert told(queued)[:2] == [(1, "ran", 1, 3), (2, "ran", 3, 3.5)]  # again at 1 + 0.5 + 1, the policy's minute
    assert told(replaced) == [(1, "cancelled", 1, 2), (2, "open", 2, None)]


def test_of_several_replacements_due_at_once_the_newest_is_left() -> None:
    out = Outage(begins_at=at(0.5), ends_at=at(3.5))

    trace = played(schedule(overlap="replace", missed="run_all"), minutes=3.9, happenings=(out,))

    assert told(trace) == [(1, "cancelled", None, 3.5), (2, "cancelled", None, 3.5), (3, "ran", 3.5, 3.52)]


def test_jobs_wait_for_slots_by_priority_and_time() -> None:
    hourly = cron("0 * * * *")
    trace = played(
        schedule("low", hourly, seconds=60, priority=JobPriority.LOW),
        schedule("first", hourly, seconds=60),
        schedule("second", hourly, seconds=60),
        schedule("urgent", hourly, seconds=60, priority=JobPriority.CRITICAL),
        minutes=65,
        fleet=Fleet(slots=1, workers=2),
    )

    assert {run.schedule: minute(run.started_at) for run in trace.runs} == {
        "urgent": 60,
        "first": 60,
        "second": 61,
        "low": 61,
    }
    assert (trace.peak.running, trace.peak.wanted, trace.peak.at) == (2, 4, at(60))
    assert (trace.lateness.p50, trace.lateness.p99, trace.lateness.max_at) == (0, 60, at(61))


def test_a_tick_whose_schedule_runs_wants_no_slot_of_its_own() -> None:
    trace = played(schedule(seconds=150), schedule("b", seconds=90), minutes=10, fleet=Fleet(slots=1))

    assert (trace.peak.running, trace.peak.wanted) == (1, 2)


def test_no_verdict_falls_while_every_slot_is_taken() -> None:
    trace = played(schedule(overlap="replace", seconds=150), minutes=4, fleet=Fleet(slots=1))

    assert told(trace)[:3] == [(1, "ran", 1, 3.5), (2, "cancelled", None, 3.5), (3, "open", 3.5, None)]


@pytest.mark.parametrize(
    ("policy", "ranges", "started"),
    [
        ({}, [("coalesced", 2, 4, 3)], [1, 5.5, 6]),
        ({"missed": "skip"}, [("missed", 2, 5, 4)], [1, 6]),
        ({"missed": "run_all", "max_catch_up": 2}, [("missed", 2, 3, 2)], [1, 5.5, 5.5, 6]),
        ({"starting_deadline_seconds": 90}, [("missed", 2, 3, 2), ("coalesced", 4, 4, 1)], [1, 5.5, 6]),
    ],
)
def test_an_outage_is_caught_up_with_by_the_policy(
    policy: dict[str, Any], ranges: list[tuple[str, float, float, int]], started: list[float]
) -> None:
    out = Outage(begins_at=at(1.5), ends_at=at(5.5))

    trace = played(schedule(overlap="allow", **policy), minutes=6.5, happenings=(out,))

    assert passed(trace) == ranges
    assert [minute(run.started_at) for run in trace.runs] == started


@pytest.mark.parametrize(("minutes_away", "outcome"), [(0.9, "ran"), (4, "missed")])
def test_what_was_made_before_an_outage_is_too_late_once_nobody_has_served_for_a_lease(
    minutes_away: float, outcome: str
) -> None:
    out = Outage(begins_at=at(0.95), ends_at=at(0.95 + minutes_away))

    trace = played(schedule(starting_deadline_seconds=10), minutes=0.95 + minutes_away + 0.03, happenings=(out,))

    assert told(trace)[0][:2] == (1, outcome)


def test_ends_during_an_outage_become_known_after_it() -> None:
    out = Outage(begins_at=at(1.2), ends_at=at(1.8))

    assert told(played(schedule(seconds=30), minutes=1.9, happenings=(out,))) == [(1, "ran", 1, 1.8)]


def test_what_a_suspension_leaves_out_is_told_when_it_is_lifted_and_at_the_end() -> None:
    happenings = (Suspend(at=at(1.5), schedule="a", reason="rest"), Resume(at=at(4.5), schedule="a"))

    trace = played(schedule(), minutes=6.5, happenings=(*happenings, Suspend(at=at(5.5), schedule="a")))

    assert passed(trace) == [("skipped_suspended", 2, 4, 3), ("skipped_suspended", 6, 6, 1)]
    assert [each.reason for each in trace.ranges] == ["rest", "suspended"]
    assert [minute(run.planned_at) for run in trace.runs] == [1, 5]
    assert trace.schedules["a"].ledger.planned == 6


def test_an_edit_sets_a_new_anchor() -> None:
    edit = Edit(at=at(1.5), schedule="a", definition=definition("a", every(timedelta(minutes=2))))

    trace = played(schedule(), minutes=6, happenings=(edit,))

    assert [minute(run.planned_at) for run in trace.runs] == [1, 3.5, 5.5]


def test_failures_in_a_row_halt_a_schedule_until_it_is_resumed() -> None:
    def fails(planned_at: datetime, _: int) -> bool:
        return planned_at < at(3.5)

    trace = played(
        schedule(fails=fails, suspend_after_failures=2),
        minutes=6.5,
        happenings=(Resume(at=at(4.5), schedule="a"),),
    )

    assert [(minute(run.planned_at), run.failed) for run in trace.runs] == [
        (1, True),
        (2, True),
        (5, False),
        (6, False),
    ]
    assert passed(trace) == [("skipped_suspended", 3, 4, 2)]


def test_bounds_end_a_schedule_and_jitter_delays_its_runs() -> None:
    bounds = Bounds(max_runs=3, jitter_seconds=50)

    trace = played(schedule(bounds=bounds), minutes=60)

    assert [minute(run.planned_at) for run in trace.runs] == [1, 2, 3]
    assert all(timedelta(0) <= run.due_at - run.planned_at < timedelta(seconds=50) for run in trace.runs)
    assert trace.lateness.max == 0


def test_a_single_job_takes_a_slot_too() -> None:
    job = SimulatedJob(name="once", run_at=at(1), takes_seconds=120, priority=JobPriority.HIGH)
    scene = Scene(begins_at=BEGIN, ends_at=at(4), schedules=(schedule(),), jobs=(job,), fleet=Fleet(slots=1))

    trace = simulate(scene)

    assert [run.outcome for run in trace.runs if run.schedule == "once"] == ["ran"]
    assert minute(trace.runs[0].started_at) == 3
    assert trace.schedules["once"].ledger.planned == 1


def test_a_watched_simulation_keeps_no_run() -> None:
    scene = Scene(begins_at=BEGIN, ends_at=at(3), schedules=(schedule(),))
    told_of: list[Run] = []

    trace = watch(scene, told_of.append)

    assert trace.runs == ()
    assert sorted(told_of, key=lambda run: run.planned_at) == simulate(scene).runs
    assert watch(scene) == trace


@pytest.mark.parametrize(
    ("days", "schedules", "limit"),
    [
        (367, (schedule(),), 366),
        (366, tuple(schedule(f"s{n}", every(timedelta(seconds=1))) for n in range(1)), 5_000_000),
    ],
)
def test_what_is_too_large_is_refused_with_its_limit(
    days: int, schedules: tuple[SimulatedSchedule, ...], limit: int
) -> None:
    with pytest.raises(SimulationTooLarge, match=f"{limit:,}") as refused:
        played(*schedules, minutes=days * 24 * 60)

    assert refused.value.limit == limit


def test_retries_without_end_are_refused_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs_module, "STARTS_MAX", 100)

    with pytest.raises(SimulationTooLarge, match="more than 100 starts"):
        played(schedule(fails=True, max_retries=10**9), minutes=1000)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Fleet(slots=0), "slots is 0"),
        (lambda: schedule(seconds=float("nan")), "takes_seconds is nan"),
        (lambda: played(schedule(seconds=lambda _: -1.0), minutes=2), "what 'a' takes is -1"),
        (lambda: played(schedule(), schedule(), minutes=2), "two are called 'a'"),
        (lambda: played(schedule(), minutes=-2), "an end at"),
        (lambda: played(schedule(), minutes=2, happenings=(Resume(at=at(1), schedule="b"),)), "no schedule 'b'"),
        (lambda: Outage(begins_at=at(2), ends_at=at(1)), "an outage until"),
        (lambda: SimulatedJob(name="j", run_at=datetime(2026, 1, 1)), "no time zone"),  # noqa: DTZ001
    ],
)
def test_what_cannot_be_simulated_is_refused(make: Any, words: str) -> None:
    with pytest.raises(InvalidArgument, match=words):
        make()


# Histories

rules = st.sampled_from([MINUTELY, cron("*/3 * * * *"), every(timedelta(seconds=45)), every(timedelta(minutes=7))])
policies = st.builds(
    Policy,
    missed=st.sampled_from(("run_latest", "skip", "run_all")),
    max_catch_up=st.integers(1, 4),
    starting_deadline_seconds=st.none() | st.integers(0, 300),
    overlap=st.sampled_from(("allow", "skip", "queue", "replace")),
    suspend_after_failures=st.none() | st.integers(1, 3),
)
bounds = st.builds(
    Bounds,
    jitter_seconds=st.sampled_from((0, 0, 30, 200)),
    max_runs=st.none() | st.integers(1, 12),
    start_at=st.none() | st.integers(0, 40).map(at),
)
moments = st.integers(0, 60 * 60).map(lambda seconds: BEGIN + timedelta(seconds=seconds))


@st.composite
def scenes(draw: st.DrawFn) -> Scene:
    names = ["a", "b", "c"][: draw(st.integers(1, 3))]

    def wanted(name: str) -> Any:
        return st.builds(
            definition,
            st.just(name),
            rules,
            bounds=bounds,
            policy=policies,
            priority=st.sampled_from(JobPriority),
            max_retries=st.integers(0, 2),
            suspended=st.booleans() if draw(st.booleans()) else st.just(False),
        )

    def simulated(name: str) -> SimulatedSchedule:
        period, share = draw(st.integers(1, 5)), draw(st.sampled_from((0.0, 1.0, 40.0, 90.0, 400.0)))
        return SimulatedSchedule(
            definition=draw(wanted(name)),
            takes_seconds=lambda tick: share * (1 + tick.minute % period),
            fails=lambda tick, attempt: (tick.minute + attempt) % period == 1,
        )

    def happening() -> Happening:
        name, moment = draw(st.sampled_from(names)), draw(moments)
        match draw(st.sampled_from(("out", "suspend", "resume", "edit"))):
            case "out":
                return Outage(begins_at=moment, ends_at=moment + timedelta(seconds=draw(st.integers(1, 900))))
            case "suspend":
                return Suspend(at=moment, schedule=name)
            case "resume":
                return Resume(at=moment, schedule=name)
            case _:
                return Edit(at=moment, schedule=name, definition=draw(wanted(name)))

    return Scene(
        begins_at=BEGIN,
        ends_at=BEGIN + timedelta(hours=1),
        schedules=tuple(map(simulated, names)),
        jobs=tuple(SimulatedJob(name=f"once-{n}", run_at=draw(moments)) for n in range(draw(st.integers(0, 2)))),
        fleet=Fleet(slots=draw(st.none() | st.integers(1, 3))),
        happenings=tuple(happening() for _ in range(draw(st.integers(0, 6)))),
    )


def most_at_once(runs: list[Run], ends_at: datetime) -> int:
    """By starts and ends, for runs of which each was started once at most."""
    steps = [(run.started_at, 1) for run in runs] + [(run.ended_at or ends_at, -1) for run in runs]
    most = now = 0
    for _, step in sorted(steps, key=lambda each: (each[0], each[1])):
        now += step
        most = max(most, now)
    return most


@settings(max_examples=60, deadline=None)
@given(scenes())
def test_every_planned_instant_is_open_or_has_one_outcome(scene: Scene) -> None:
    trace = simulate(scene)

    for name, summary in trace.schedules.items():
        ledger = summary.ledger
        told_of = Counter(run.outcome for run in trace.runs if run.schedule == name)
        for each in trace.ranges:
            told_of[each.outcome] += each.ticks if each.schedule == name else 0
        assert ledger.planned == ledger.accounted == told_of.total()
        assert ledger == type(ledger).of(ledger.planned, told_of)
    planned = Counter((run.schedule, run.planned_at) for run in trace.runs)
    assert set(planned.values()) <= {1}


@settings(max_examples=40, deadline=None)
@given(scenes())
def test_slots_and_keys_are_never_held_twice(scene: Scene) -> None:
    trace = simulate(scene)
    retried = {each.name for _, each in scene.definitions() if each.template.max_retries}
    started = [run for run in trace.runs if run.started_at is not None and run.schedule not in retried]

    slots = scene.fleet.all_slots
    assert slots is None or trace.peak.running <= slots
    assert slots is None or most_at_once(started, scene.ends_at) <= slots
    edited = {each.schedule for each in scene.happenings if isinstance(each, Edit)}
    by_name = defaultdict(list)
    for run in started:
        by_name[run.schedule].append(run)
    for simulated in scene.schedules:
        if simulated.definition.policy.overlap != "allow" and simulated.name not in edited:
            assert most_at_once(by_name[simulated.name], scene.ends_at) <= 1
    assert all(run.started_at >= run.due_at >= run.planned_at for run in started if run.started_at)


def retries_beside_ticks() -> Scene:
    """On one slot a retry falls due at the instant of its schedule's next tick."""
    often_fails = SimulatedSchedule(
        definition=definition("a", cron("*/3 * * * *"), max_retries=1),
        takes_seconds=lambda at: 40 * (1 + at.minute % 2),
        fails=lambda at, attempt: (at.minute + attempt) % 2 == 1,
    )
    other = SimulatedSchedule(definition=definition("b", cron("* * * * *")), takes_seconds=40)
    return Scene(begins_at=BEGIN, ends_at=at(60), schedules=(often_fails, other), fleet=Fleet(slots=1))


@settings(max_examples=40, deadline=None)
@given(scenes())
@example(retries_beside_ticks())
def test_planning_a_day_or_a_poll_at_a_time_is_the_same(scene: Scene) -> None:
    by_day = simulate(scene)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(virtual, "STRIDE", timedelta(0))
        by_poll = simulate(scene)

    assert by_day == by_poll


def test_an_unaltered_scene_tells_of_each_tick_of_the_rule() -> None:
    out = Outage(begins_at=at(60), ends_at=at(200))
    scene = Scene(begins_at=BEGIN, ends_at=at(600), schedules=(schedule(),), happenings=(out,))

    trace = simulate(scene)

    assert trace.schedules["a"].ledger.planned == 600
    assert replace(trace, runs=()) == watch(scene)
