"""``until``: returns what it waited for, or says what it saw last."""

from __future__ import annotations

import pytest

from support.waiting import until


async def test_until_returns_the_first_true_answer() -> None:
    answers = iter([0, "", 3])
    assert await until(lambda: next(answers)) == 3


async def test_until_awaits_async_probes_and_their_assertions() -> None:
    rows: list[int] = []

    async def two_rows() -> list[int]:
        rows.append(1)
        assert len(rows) == 2
        return rows

    assert await until(two_rows) == [1, 1]


async def test_until_says_what_it_waited_for_and_saw_last() -> None:
    with pytest.raises(AssertionError, match=r"not within 0\.02 s: a row comes; last seen: \[\]"):
        await until(list, timeout=0.02, what="a row comes")


async def test_until_shows_the_probe_where_nothing_else_names_it() -> None:
    never_filled: list[int] = []
    with pytest.raises(AssertionError, match="len\\(never_filled\\)"):
        await until(lambda: len(never_filled), timeout=0.02)


async def test_until_shows_the_last_failed_assertion() -> None:
    def probe() -> bool:
        raise AssertionError("one row is missing")

    with pytest.raises(AssertionError, match="one row is missing"):
        await until(probe, timeout=0.02)
