"""Names of jobs whose callers give none."""

from __future__ import annotations

import time
import uuid

from pg_scheduler._engine.job_ids import NUMBERS, new_job_id, new_job_ids


def test_ids_are_uuids_of_version_7_made_now() -> None:
    before = time.time_ns() // 1_000_000
    ids = [uuid.UUID(job_id) for job_id in (new_job_id(), *new_job_ids(100))]

    assert {(each.version, each.variant) for each in ids} == {(7, uuid.RFC_4122)}
    assert all(before <= each.int >> 80 <= time.time_ns() // 1_000_000 + 1 for each in ids)


def test_ids_of_one_call_differ_and_rise() -> None:
    ids = list(new_job_ids(3 * NUMBERS))

    assert ids == sorted(set(ids))


def test_ids_of_two_calls_at_once_differ() -> None:
    assert not set(new_job_ids(1000)) & set(new_job_ids(1000))


def test_ids_of_calls_one_after_another_rise() -> None:
    ids = [new_job_id() for _ in range(1000)]

    assert ids == sorted(ids)
