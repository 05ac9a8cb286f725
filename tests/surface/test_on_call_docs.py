"""What the page for people on call tells them to paste can be pasted: metrics, labels, statements."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import pytest

from pg_scheduler._serving import metrics as worker
from pg_scheduler_operator import metrics as operator
from support.paths import ROOT

if TYPE_CHECKING:
    import asyncpg

PAGE: Final = (ROOT / "docs" / "how-to" / "on-call.md").read_text(encoding="utf-8")
LABELS: Final = {metric.name: set(metric.labels) for metric in (*operator.METRICS, *worker.METRICS)}
NAME: Final = re.compile(r"pgscheduler_(?:operator|worker|schedule)_\w+")
BLOCKS: Final = re.findall(r"^```(promql|sql)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
QUERIES: Final = [
    *(line for kind, block in BLOCKS if kind == "promql" for line in block.splitlines()),
    *(code for code in re.findall(r"`([^`]+)`", PAGE.replace("\n", " ")) if NAME.search(code)),
]
STATEMENTS: Final = [block for kind, block in BLOCKS if kind == "sql"]
SECTIONS: Final = re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]
SIGNALS: Final = {
    *("status_backlog_age_seconds", "sweep_age_seconds", "sweep_held_rows", "scale_in_held", "scale_in_marked_pods"),
    *("scale_in_wrong_victim_total", "unroutable_jobs", "late_seconds", "leader", "database_up", "crds_outdated"),
}


@pytest.mark.parametrize("query", QUERIES)
def test_query_names_metrics_and_labels_that_exist(query: str) -> None:
    names = NAME.findall(query)

    assert names
    for name in names:
        assert name in LABELS
    labels = re.findall(r"\bby \((.*?)\)", query) + re.findall(r"\{(\w+)=", query)
    for label in ", ".join(labels).split(", ") if labels else ():
        assert all(label in LABELS[name] for name in names), label


@pytest.mark.parametrize("query", QUERIES)
def test_query_is_whole(query: str) -> None:
    for opened, closed in ("()", "[]", "{}"):
        assert query.count(opened) == query.count(closed)
    for inner in re.findall(r"(?:rate|increase|\w+_over_time)\((.*?)\)", query):
        assert re.search(r"\[\d+[smhd]\]$", inner), "a range"


def test_rates_are_of_counters() -> None:
    rated = {name for query in QUERIES for name in re.findall(r"(?:rate|increase)\((pgscheduler_\w+)", query)}

    assert rated
    assert all(name.endswith("_total") for name in rated)


@pytest.mark.parametrize("statement", STATEMENTS)
async def test_statement_runs(statement: str, pool: asyncpg.Pool[asyncpg.Record]) -> None:
    assert await pool.fetch(statement) == []


async def test_statement_finds_unroutable_jobs(pool: asyncpg.Pool[asyncpg.Record]) -> None:
    (statement,) = [statement for statement in STATEMENTS if "scheduler_living_workers" in statement]
    await pool.execute(
        "INSERT INTO scheduler_workers (id, tenant, queues, tasks, slots, lease_until, version)"
        " VALUES ('w', 'shop', '{default}', '{known}', 10, 'infinity', '0')"
    )
    for task, queue in (("known", "default"), ("unknown", "default"), ("known", "elsewhere")):
        await pool.execute("SELECT scheduler_enqueue($1, queue => $2, tenant => 'shop')", task, queue)

    found = {(row["task"], row["queue"]) for row in await pool.fetch(statement)}

    assert found == {("unknown", "default"), ("known", "elsewhere")}


def test_every_signal_has_an_objective_and_a_runbook() -> None:
    listed = re.findall(r"^\| \[.*?\]\(#(.*?)\) \| .+ \| .+ \|$", PAGE, re.MULTILINE)
    headings = [section.partition("\n")[0].lower().replace(" ", "-") for section in SECTIONS]

    assert listed == headings
    assert {f"pgscheduler_operator_{name}" for name in SIGNALS} <= {n for query in QUERIES for n in NAME.findall(query)}
    for section in SECTIONS:
        assert "```promql" in section
        assert all(word in section.replace("\n", " ") for word in (" means: ", "Look: ", "Do: ")), section
