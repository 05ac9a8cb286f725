"""What a run has found out is on the screen before the run is over, which may be cut off from outside.

Invariant: a failure is told when it happens, in full only at the end; an interrupted run names the tests it was in.
Also in how many processes ``-n auto`` runs the tests: most wait for PostgreSQL, for a process or for a lease.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

PROCESSES_PER_CORE = 2
MOST_PROCESSES = 8


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    return min(PROCESSES_PER_CORE * (os.cpu_count() or 1), MOST_PROCESSES)


@pytest.hookimpl(trylast=True)  # the terminal's own comes first
def pytest_configure(config: pytest.Config) -> None:
    if terminal := config.pluginmanager.get_plugin("terminalreporter"):
        config.pluginmanager.register(Progress(terminal))


class Progress:
    """Watches the tests of one run, in whatever process they run."""

    def __init__(self, terminal: pytest.TerminalReporter) -> None:
        self._terminal = terminal
        self._begun: dict[str, None] = {}

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._begun[nodeid] = None

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        self._begun.pop(nodeid, None)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> Iterator[None]:
        yield
        if report.failed:
            crash = getattr(report.longrepr, "reprcrash", None)
            why = (crash.message if crash else str(report.longrepr)).partition("\n")[0]
            self._terminal.write_line(f" {report.nodeid}, {report.when}: {why}")

    def pytest_terminal_summary(self, exitstatus: int) -> None:
        if exitstatus == pytest.ExitCode.INTERRUPTED and self._begun:
            self._terminal.section("interrupted in")
            for nodeid in self._begun:
                self._terminal.line(nodeid)
