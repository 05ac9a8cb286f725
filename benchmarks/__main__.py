"""``python -m benchmarks``: run scenarios on a server of the run's own and say which goals are met.

Invariant: standard output carries the result only; progress goes to standard error. Exit code 0: every goal that was
measured is met, 1: one is not, 2: wrong usage, 3: a scenario broke.
"""

from __future__ import annotations

import asyncio
import sys
import time
import traceback
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import click

from benchmarks.bench import Bench, Scenario
from benchmarks.child import loop_factory
from benchmarks.report import circumstances_of, print_result
from benchmarks.scenarios import SCENARIOS
from pg_scheduler.cli.output import Output, output_option, progress
from pg_scheduler.embedded import EmbeddedPostgres

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from benchmarks.figures import Figure
    from benchmarks.report import Circumstances

BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}
NOTES = "\n".join(
    f"  {scenario.name:<15} {scenario.about}{'' if scenario.usual else ' (only by name)'}" for scenario in SCENARIOS
)


@click.command(
    "benchmarks",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=f"\b\nScenarios:\n{NOTES}",
)
@click.option(
    "--only",
    multiple=True,
    type=click.Choice(list(BY_NAME)),
    metavar="SCENARIO",
    help="Run this scenario; may be given more than once. Without it all run but those marked below.",
)
@click.option(
    "--scale",
    type=click.FloatRange(0, 100, min_open=True),
    default=1.0,
    show_default=True,
    help="Share of each scenario's jobs and seconds; goals hold at 1.",
)
@click.option(
    "--pairs", type=click.IntRange(1, 100), default=5, show_default=True, help="How often ours and bare take turns."
)
@click.option(
    "--loop",
    type=click.Choice(["asyncio", "uvloop"]),
    default="asyncio",
    show_default=True,
    help="Event loop of both sides.",
)
@click.option("--dsn", help="Database on a server of yours; without it a PostgreSQL is started for the run.")
@click.option(
    "--plot",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Draw the result into this file too (svg or png); needs matplotlib.",
)
@click.option(
    "--profile",
    type=click.Path(file_okay=False, exists=True, path_type=Path),
    help="Write a profile of each of our worker processes into this folder; it makes ours slower.",
)
@output_option
def benchmarks(
    only: Sequence[str],
    scale: float,
    pairs: int,
    loop: str,
    dsn: str | None,
    plot: Path | None,
    profile: Path | None,
    output: Output,
) -> None:
    """Measure the library beside a bare asyncpg loop, on the same server in the same run.

    Prints ours, bare, their ratio, the goal and whether it is met. The exit code is 1 where one is not, and 3 where a
    scenario broke.
    """
    draw = _drawing() if plot else None  # before anything is measured, should it not be there
    chosen = [scenario for scenario in SCENARIOS if (scenario.name in only if only else scenario.usual)]
    with _server(dsn) as address, asyncio.Runner(loop_factory=loop_factory(loop)) as runner:
        bench = Bench(dsn=address, scale=scale, pairs=pairs, loop=loop, profile=profile, say=progress)
        circumstances = runner.run(_circumstances(bench))
        progress(str(circumstances))
        figures, broken = runner.run(run_all(bench, chosen))
    print_result(circumstances, figures, output)
    if draw and plot:
        draw(circumstances, figures, plot)
    sys.exit(3 if broken else any(figure.met is False for figure in figures))


@contextmanager
def _server(dsn: str | None) -> Iterator[str]:
    if dsn:
        yield dsn
        return
    with EmbeddedPostgres() as server:
        yield server.dsn


async def _circumstances(bench: Bench) -> Circumstances:
    try:
        return await circumstances_of(bench)
    except (OSError, asyncpg.PostgresError) as error:
        raise click.UsageError(f"no server for the run: {error}") from error


def _drawing() -> Callable[[Circumstances, Sequence[Figure], Path], None]:
    try:
        from benchmarks.plot import draw  # noqa: PLC0415 (matplotlib is wanted here only)
    except ModuleNotFoundError as error:
        raise click.UsageError(f"--plot needs {error.name}: pip install matplotlib") from error
    return draw


async def run_all(bench: Bench, scenarios: Sequence[Scenario]) -> tuple[list[Figure], list[str]]:
    """The figures, and the names of the scenarios that broke: one that does takes none of the others with it."""
    figures: list[Figure] = []
    broken: list[str] = []
    for scenario in scenarios:
        began = time.monotonic()
        try:
            figures += await scenario.run(bench)
        except Exception:  # noqa: BLE001 - shown whole, and told by the exit code
            traceback.print_exc()
            broken.append(scenario.name)
        bench.say(
            f"{scenario.name}: {'BROKE' if scenario.name in broken else 'done'} in {time.monotonic() - began:.0f} s"
        )
    return figures, broken


if __name__ == "__main__":
    benchmarks()
