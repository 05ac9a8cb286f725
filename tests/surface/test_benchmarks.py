"""The benchmarks run and say what they promise; what they measure is no business of a test."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from click.testing import CliRunner

from benchmarks.__main__ import benchmarks, run_all
from benchmarks.bench import Bench, Scenario
from benchmarks.figures import Figure, Goal, alone, compared, percentile
from benchmarks.plot import draw
from benchmarks.report import Circumstances
from benchmarks.scenarios import SCENARIOS
from support.paths import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from support.databases import PgServer

SCALES = {"idle": 0.001, "rows": 0.001, "rows-10m": 0.0001}
WHERE = Circumstances(
    measured_at="2026-11-24T00:00+00:00",
    release="0.2.1",
    python="3.13.1",
    loop="asyncio",
    postgres="18.6",
    machine="Linux x86_64",
    cpus=2,
    scale=1.0,
    pairs=5,
)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("name", [scenario.name for scenario in SCENARIOS])
async def test_scenario_runs_and_gives_its_figures(name: str, pg_server: PgServer) -> None:
    scale = SCALES.get(name, 0.002)

    ended = run("--dsn", pg_server.dsn, "--only", name, "--scale", str(scale), "--pairs", "1", "-o", "json")

    assert ended.returncode in {0, 1}, ended.stderr
    assert "Traceback" not in ended.stderr
    result = json.loads(ended.stdout)
    assert set(result) == {"circumstances", "figures"}
    assert result["circumstances"]["postgres"].startswith("18.")
    assert_figures(name, result["figures"])
    goals = [figure["met"] for figure in result["figures"] if figure["goal"]]
    assert ended.returncode == (0 if all(goals) else 1)
    assert await databases_of_benchmarks(pg_server.dsn) == []


async def databases_of_benchmarks(dsn: str) -> list[str]:
    connection = await asyncpg.connect(dsn)
    rows = await connection.fetch("SELECT datname FROM pg_database WHERE datname LIKE 'bench%'")
    await connection.close()
    return [row["datname"] for row in rows]


def assert_figures(name: str, figures: list[dict[str, Any]]) -> None:
    assert figures
    for figure in figures:
        assert figure["scenario"] == name
        assert figure["case"]
        assert figure["unit"]
        assert figure["samples"] >= 1
        assert isinstance(figure["ours"], int | float)
        assert (figure["met"] is None) == (figure["goal"] is None)
        if figure["bare"]:
            assert figure["ratio"] == pytest.approx(figure["ours"] / figure["bare"])
        if figure["case"].endswith("second starts"):
            assert figure["ours"] == 0


def test_scenario_names_are_unique_and_usual_ones_exist() -> None:
    names = [scenario.name for scenario in SCENARIOS]

    assert len(set(names)) == len(names)
    assert [scenario.name for scenario in SCENARIOS if not scenario.usual] == ["rows-10m"]


def test_help_names_every_scenario() -> None:
    shown = CliRunner().invoke(benchmarks, ["--help"]).output

    assert all(f"\n    {scenario.name} " in shown for scenario in SCENARIOS)


def test_unknown_scenario_is_wrong_usage() -> None:
    ended = CliRunner().invoke(benchmarks, ["--only", "drian"])

    assert ended.exit_code == 2
    assert "'drian' is not one of 'drain'" in ended.output


async def test_scenario_that_breaks_is_told_and_takes_no_other_with_it(capsys: pytest.CaptureFixture[str]) -> None:
    said: list[str] = []
    bench = Bench(dsn="", scale=1.0, pairs=1, loop="asyncio", say=said.append)

    async def breaks(_: Bench) -> list[Figure]:
        raise RuntimeError("a worker of the benchmark did not start")

    async def works(_: Bench) -> list[Figure]:
        return [alone("works", "c", "jobs", 1)]

    figures, broken = await run_all(
        bench, [Scenario(name="breaks", about="", run=breaks), Scenario(name="works", about="", run=works)]
    )

    assert ([figure.scenario for figure in figures], broken) == (["works"], ["breaks"])
    assert said == ["breaks: BROKE in 0 s", "works: done in 0 s"]
    assert "a worker of the benchmark did not start" in capsys.readouterr().err


def test_server_that_is_not_there_is_wrong_usage() -> None:
    ended = CliRunner().invoke(benchmarks, ["--only", "drain", "--dsn", "postgresql://nobody@/db?host=/nowhere"])

    assert ended.exit_code == 2
    assert "no server for the run" in ended.output


def test_goal_counts_its_own_bound_as_met() -> None:
    assert Goal(at_least=0.8).is_met(0.8)
    assert not Goal(at_least=0.8).is_met(0.79)
    assert Goal(of="ours", at_most=0).is_met(0)
    assert not Goal(of="ours", at_most=0).is_met(1)


def test_figure_is_judged_by_the_ratio_of_medians() -> None:
    figure = compared("s", "c", "jobs/s", [80, 90, 500], [100, 100, 1], Goal(at_least=0.9))

    assert (figure.ours, figure.bare, figure.ratio, figure.met) == (90, 100, 0.9, True)


def test_figure_is_judged_by_ours_where_the_goal_says_so() -> None:
    assert compared("s", "c", "MB", [61], [10_000], Goal(of="ours", at_most=60)).met is False
    assert alone("s", "c", "jobs", 3).met is None


def test_percentile_is_a_sample_that_so_many_do_not_exceed() -> None:
    samples = [float(number) for number in range(100, 0, -1)]

    assert [percentile(samples, percent) for percent in (1, 50, 99, 100)] == [1, 50, 99, 100]
    assert percentile([7.0], 99) == 7


def test_plot_is_the_same_for_the_same_result(tmp_path: Path) -> None:
    figures = [
        compared("drain", "large", "jobs/s", [90.0], [100.0], Goal(at_least=0.8)),
        compared("pickup", "p50", "ms", [3.0], [2.0], Goal(at_most=1.1)),
        alone("workers", "second starts", "jobs", 0, Goal(of="ours", at_most=0)),
    ]

    for name in ("one.svg", "two.svg"):
        draw(WHERE, figures, tmp_path / name)

    drawn = (tmp_path / "one.svg").read_text()
    assert drawn == (tmp_path / "two.svg").read_text()
    assert "drain: large" in drawn
    assert "1.50 of bare; goal ≤ 1.1" in drawn
    assert "second starts" not in drawn


def test_scaled_number_has_a_floor() -> None:
    bench = Bench(dsn="", scale=0.001, pairs=1, loop="asyncio", say=print)

    assert bench.scaled(50_000) == 50
    assert bench.scaled(100) == 20


def test_every_scenario_is_explained() -> None:
    page = (ROOT / "docs" / "explanation" / "benchmarks.md").read_text(encoding="utf-8")

    assert [scenario.name for scenario in SCENARIOS if f"`{scenario.name}`" not in page] == []
