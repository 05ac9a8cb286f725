"""What a run has found out is on the screen before the run is over: it may be cut off from outside.

Invariant: a failure is told when it happens, in full only at the end; a run that was interrupted names the tests that it
was in. How many processes share the tests where ``-n auto`` asks for them: tests wait for PostgreSQL, for processes and
for leases more than they compute.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

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
