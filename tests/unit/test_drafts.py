"""Drafts say the same by rows and by columns, whole and in stretches, all of them and a choice of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import count
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from pg_scheduler._domain.drafts import Common, Drafts
from support.world import new_job

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pg_scheduler._domain.jobs import NewJob

NOW = datetime(2030, 1, 1, tzinfo=UTC)
COMMONS = [Common.of(new_job()), Common.of(new_job(queue="other", priority=1, tags='["a"]'))]

choices = st.lists(st.tuples(st.booleans(), st.sampled_from(COMMONS)), max_size=12)


def new_ids() -> Iterator[str]:
    return (f"new-{number}" for number in count())


def drafts_of(given_jobs: list[tuple[bool, Common]]) -> Drafts:
    drafts = Drafts(new_ids())
    for place, (is_named, common) in enumerate(given_jobs):
        drafts.add(common, f"given-{place}" if is_named else None, f"[{place}]", NOW + timedelta(seconds=place))
    return drafts


def rows_of(given_jobs: list[tuple[bool, Common]]) -> list[NewJob]:
    """The rows, made in the plain way."""
    fresh = new_ids()
    rows = []
    for place, (is_named, common) in enumerate(given_jobs):
        job_id = f"given-{place}" if is_named else next(fresh)
        of_common = new_job(queue="other", priority=1, tags='["a"]') if common is COMMONS[1] else new_job()
        rows.append(
            of_common._replace(job_id=job_id, task_data=f"[{place}]", execution_time=NOW + timedelta(seconds=place))
        )
    return rows


@given(choices, st.integers(1, 5))
def test_drafts_in_stretches_are_their_rows(given_jobs: list[tuple[bool, Common]], size: int) -> None:
    drafts = drafts_of(given_jobs)

    stretches = [[*zip(*stretch, strict=True)] for stretch in drafts.stretches(size)]

    assert [row for stretch in stretches for row in stretch] == rows_of(given_jobs) == [*drafts]
    assert all(len(stretch) == size for stretch in stretches[:-1])
    assert drafts.ids == [row.job_id for row in drafts]


@given(choices, st.sets(st.integers(0, 11)))
def test_a_choice_of_drafts_is_that_of_their_rows(given_jobs: list[tuple[bool, Common]], chosen: set[int]) -> None:
    drafts, rows = drafts_of(given_jobs), rows_of(given_jobs)
    inside = [row for place, row in enumerate(rows) if place in chosen]
    outside = [row for place, row in enumerate(rows) if place not in chosen]

    passing, others = drafts.split(lambda job: job in inside)

    assert [*passing] == inside
    assert [*others] == [*drafts.without({row.job_id for row in inside})] == outside
    assert [*drafts.at(range(len(rows) - 1, -1, -1))] == rows[::-1]


def test_drafts_use_the_columns_of_all() -> None:
    drafts = drafts_of([(False, COMMONS[0]), (True, COMMONS[1]), (True, COMMONS[0])])

    assert drafts.columns == COMMONS[0].columns | {"queue", "priority", "tags"}
    assert drafts.at([0]).columns == COMMONS[0].columns
    assert drafts.ids_given
    assert drafts.earliest == NOW
