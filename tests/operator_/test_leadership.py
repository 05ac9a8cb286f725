from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pg_scheduler_operator import leadership
from pg_scheduler_operator.errors import KubernetesUnreachable, LeadershipLost, ObjectChanged
from pg_scheduler_operator.gateway.lease import LeaseRecord
from pg_scheduler_operator.leadership import HOLD_SECONDS, LEASE_SECONDS, Election
from pg_scheduler_operator.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import Callable


class Lease:
    """A Lease of an API server, which may be away, or do what it is asked for and not answer."""

    def __init__(self) -> None:
        self.record = LeaseRecord(holder="", acquired_at=None, renewed_at=None, transitions=0, version="1")
        self.away = False
        self.loses_answers = False
        self.hangs = False
        self.is_unreadable = False

    async def read(self) -> LeaseRecord:
        if self.away or self.is_unreadable:
            raise KubernetesUnreachable("nobody answers")
        return self.record

    async def write(self, record: LeaseRecord) -> LeaseRecord:
        if self.hangs:
            await asyncio.Event().wait()
        if self.away:
            raise KubernetesUnreachable("nobody answers")
        if record.version != self.record.version:
            raise ObjectChanged("it has changed", status=409)
        self.record = replace(record, version=str(int(record.version) + 1))
        if self.loses_answers:
            raise KubernetesUnreachable("nobody answers")
        return self.record


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def candidate(lease: Lease, name: str, clock: Callable[[], float]) -> Election:
    return Election(lease, identity=name, metrics=Metrics(), clock=clock)


async def test_free_lease_is_taken_and_a_held_one_is_not() -> None:
    lease, clock = Lease(), Clock()

    assert await candidate(lease, "a", clock).try_once()
    assert not await candidate(lease, "b", clock).try_once()

    assert lease.record.holder == "a"
    assert lease.record.transitions == 1


async def test_lease_that_stands_still_for_its_time_is_taken() -> None:
    lease, clock = Lease(), Clock()
    await candidate(lease, "a", clock).try_once()
    other = candidate(lease, "b", clock)
    assert not await other.try_once()

    clock.now += LEASE_SECONDS - 0.1
    assert not await other.try_once()
    clock.now += 0.1
    assert await other.try_once()


async def test_standby_looks_when_the_lease_ends_and_not_a_look_later() -> None:
    lease, clock = Lease(), Clock()
    await candidate(lease, "a", clock).try_once()
    other = candidate(lease, "b", clock)
    assert not await other.try_once()
    assert other.pause_seconds() == leadership.LOOK_SECONDS

    clock.now += LEASE_SECONDS - 0.5
    assert other.pause_seconds() == pytest.approx(0.5)
    clock.now += 1
    assert 0 < other.pause_seconds() < 0.5


async def test_renewal_seen_begins_the_wait_anew() -> None:
    lease, clock = Lease(), Clock()
    first, other = candidate(lease, "a", clock), candidate(lease, "b", clock)
    await first.try_once()
    for _ in range(10):
        clock.now += 8
        await first.renew_once()
        assert not await other.try_once()


async def test_lease_that_was_given_back_is_taken_at_once() -> None:
    lease, clock = Lease(), Clock()
    first, other = candidate(lease, "a", clock), candidate(lease, "b", clock)
    await first.try_once()
    assert not await other.try_once()

    await first.release()

    assert await other.try_once()
    assert lease.record.transitions == 2


async def test_lease_is_given_back_though_nobody_has_waited_for_the_answer_to_its_last_renewal() -> None:
    lease, clock = Lease(), Clock()
    first = candidate(lease, "a", clock)
    await first.try_once()
    lease.loses_answers = True
    with pytest.raises(KubernetesUnreachable):
        await first.renew_once()
    lease.loses_answers = False

    await first.release()

    assert lease.record.holder == ""


async def test_holder_that_could_not_look_who_has_written_never_renews_the_lease_of_another() -> None:
    lease, clock = Lease(), Clock()
    first = candidate(lease, "a", clock)
    await first.try_once()
    theirs = await lease.write(replace(lease.record, holder="b"))
    lease.is_unreadable = True
    with pytest.raises(KubernetesUnreachable):
        await first.renew_once()
    lease.is_unreadable = False

    with pytest.raises(LeadershipLost, match="held by b"):
        await first.renew_once()
    await first.release()

    assert lease.record == theirs


async def test_renewal_whose_answer_was_lost_does_not_cost_the_lease() -> None:
    lease, clock = Lease(), Clock()
    first = candidate(lease, "a", clock)
    await first.try_once()
    lease.loses_answers = True
    with pytest.raises(KubernetesUnreachable):
        await first.renew_once()
    lease.loses_answers = False

    await first.renew_once()

    assert lease.record.holder == "a"


async def test_holder_that_sees_another_one_has_lost() -> None:
    lease, clock = Lease(), Clock()
    first = candidate(lease, "a", clock)
    await first.try_once()
    await lease.write(replace(lease.record, holder="b"))

    with pytest.raises(LeadershipLost, match="held by b"):
        await first.renew_once()


async def test_holder_that_cannot_renew_has_lost_before_another_may_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leadership, "LOOK_SECONDS", 0)
    lease, clock = Lease(), Clock()
    first = candidate(lease, "a", clock)
    await first.try_once()
    lease.away = True
    holding = asyncio.create_task(first.hold())
    for _ in range(20):
        await asyncio.sleep(0)
    assert not holding.done()

    clock.now += HOLD_SECONDS
    with pytest.raises(LeadershipLost, match="could not be renewed in time"):
        await holding

    assert HOLD_SECONDS < LEASE_SECONDS


async def test_api_server_that_hangs_costs_the_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leadership, "LOOK_SECONDS", 0)
    monkeypatch.setattr(leadership, "HOLD_SECONDS", 0.05)
    lease = Lease()
    first = candidate(lease, "a", asyncio.get_running_loop().time)
    await first.try_once()
    lease.hangs = True

    with pytest.raises(LeadershipLost):
        await first.hold()


async def test_standby_outlives_an_api_server_that_is_away_and_says_so_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(leadership, "LOOK_SECONDS", 0)
    lease = Lease()
    lease.away = True
    looks: list[bool] = []

    def look(answers: bool) -> None:
        looks.append(answers)
        lease.away = len(looks) < 3

    await candidate(lease, "a", Clock()).acquire(on_look=look)

    assert looks == [False, False, False, True]
    assert caplog.text.count("cannot read or take the Lease") == 1


async def test_lease_is_taken_over_from_a_holder_who_then_has_the_time_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    lease, clock = Lease(), Clock()
    first, other = candidate(lease, "a", clock), candidate(lease, "b", clock)
    await first.try_once()
    monkeypatch.setattr(asyncio, "sleep", sleep)
    await other.take_over()

    assert waited == [HOLD_SECONDS]
    with pytest.raises(LeadershipLost, match="held by b"):
        await first.renew_once()
    await other.renew_once()


async def test_free_lease_is_taken_over_without_a_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asyncio, "sleep", None)
    lease = Lease()

    await candidate(lease, "a", Clock()).take_over()

    assert lease.record.holder == "a"


async def test_lease_renewed_between_look_and_write_is_taken_over_at_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leadership, "HOLD_SECONDS", 0)
    lease, clock = Lease(), Clock()
    first, other = candidate(lease, "a", clock), candidate(lease, "b", clock)
    await first.try_once()
    read, renewals = lease.read, [1]

    async def read_late() -> LeaseRecord:
        record = await read()
        if renewals:
            renewals.pop()
            await first.renew_once()
        return record

    monkeypatch.setattr(lease, "read", read_late)
    await other.take_over()

    assert lease.record.holder == "b"


@pytest.mark.parametrize("fault", ["away", "hangs"])
async def test_release_never_keeps_the_end_waiting(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leadership, "RELEASE_SECONDS", 0.01)
    lease = Lease()
    first = candidate(lease, "a", Clock())
    await first.try_once()
    setattr(lease, fault, True)

    await first.release()


STEPS = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from(["look", "look", "renew", "release"]), st.floats(0, 6))
    | st.tuples(st.just(""), st.sampled_from(["away", "loses_answers", "fine"]), st.just(0.0)),
    max_size=60,
)


@given(STEPS)
async def test_no_two_ever_take_themselves_for_the_holder(steps: list[tuple[str, str, Any]]) -> None:
    lease, clock = Lease(), Clock()
    candidates = {name: candidate(lease, name, clock) for name in "abc"}
    leading: set[str] = set()
    for name, step, seconds in steps:
        clock.now += seconds
        leading = {one for one in leading if candidates[one].seconds_left > 0}
        try:
            match step:
                case "look" if name not in leading:
                    leading |= {name} if await candidates[name].try_once() else set()
                case "renew" if name in leading:
                    await candidates[name].renew_once()
                case "release" if name in leading:
                    leading.discard(name)
                    await candidates[name].release()
                    candidates[name] = candidate(lease, name, clock)
                case "away" | "loses_answers" | "fine":
                    lease.away, lease.loses_answers = step == "away", step == "loses_answers"
                case _:
                    pass
        except KubernetesUnreachable:
            pass
        except LeadershipLost:
            leading.discard(name)
        assert len(leading) <= 1
