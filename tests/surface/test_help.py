"""What ``pgscheduler`` says of itself, and of what is not installed."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points, version
from typing import TYPE_CHECKING

import click
import pytest
from click.testing import CliRunner

from pg_scheduler.cli.group import pgscheduler as group

if TYPE_CHECKING:
    from support.commands import RunCommand

OWN = {"maintenance", "migrate", "preview", "worker"}
COMMANDS = (
    *(
        "chart",
        "crds",
        "demo",
        "dev",
        "lint",
        "maintenance",
        "migrate",
        "operator",
        "preview",
        "simulate",
        "sweep",
        "worker",
    ),
)


def commands() -> dict[str, click.Command]:
    context = click.Context(group)
    found = {name: group.get_command(context, name) for name in group.list_commands(context)}
    return {name: command for name, command in found.items() if command is not None}


def test_every_command_is_listed_with_a_whole_sentence() -> None:
    shown = CliRunner().invoke(group, ["--help"]).output

    assert tuple(commands()) == COMMANDS
    for name in COMMANDS:
        line = next(line for line in shown.splitlines() if line.startswith(f"  {name} "))
        assert line.endswith("."), line
        assert not line.endswith("..."), line


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_is_explained(name: str) -> None:
    command = commands()[name]

    result = CliRunner().invoke(group, [name, "--help"])

    assert result.exit_code == 0
    assert command.help
    options = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
    assert [option.name for option in options if not option.help] == []


def test_help_and_version_have_short_ways() -> None:
    assert CliRunner().invoke(group, ["-h"]).output == CliRunner().invoke(group, ["--help"]).output
    assert version("pgscheduler") in CliRunner().invoke(group, ["--version"]).output


def test_help_never_shows_a_connection_string(pgscheduler: RunCommand) -> None:
    for name in COMMANDS:
        shown = pgscheduler(name, "--help", env={"PGSCHEDULER_DSN": "postgresql://app:s3cret@db/app"})
        assert shown.exit_code == 0
        assert "s3cret" not in shown.out


def test_unknown_command_is_wrong_usage(pgscheduler: RunCommand) -> None:
    ended = pgscheduler("wroker")

    assert ended.exit_code == 2
    assert "No such command 'wroker'" in ended.err


def test_operator_commands_come_by_entry_point() -> None:
    assert {entry.name for entry in entry_points(group="pgscheduler.commands")} == set(COMMANDS) - OWN


def without(*packages: str, run: str) -> subprocess.CompletedProcess[str]:
    """Run ``pgscheduler`` in a Python in which these packages cannot be imported."""
    script = (
        f"import sys; sys.modules.update(dict.fromkeys({packages!r}));"
        f"sys.argv = ['pgscheduler', *{run.split()!r}]; from pg_scheduler.cli import main; main()"
    )
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("missing", "run", "package", "extra"),
    [
        ("click", "worker", "click", "cli"),
        ("click", "--help", "click", "cli"),
        ("kopf", "operator", "kopf", "operator"),
        ("kubernetes_asyncio", "operator", "kubernetes_asyncio", "operator"),
        ("pydantic", "demo", "pydantic", "demo"),
        ("yaml", "demo", "yaml", "demo"),
        ("pydantic", "dev tasks.py", "pydantic", "demo"),
        ("pydantic", "crds", "pydantic", "operator"),
        ("pydantic", "lint .", "pydantic", "demo"),
        ("yaml", "simulate .", "yaml", "demo"),
        ("pythonjsonlogger", "worker --dsn postgresql://a@b/c --log-format json", "pythonjsonlogger", "worker"),
        ("aiohttp", "worker --dsn postgresql://a@b/c --http 127.0.0.1:0", "aiohttp", "worker"),
        ("prometheus_client", "worker --dsn postgresql://a@b/c --http 127.0.0.1:0", "prometheus_client", "worker"),
    ],
)
def test_missing_extra_is_one_line_to_paste(missing: str, run: str, package: str, extra: str) -> None:
    ended = without(missing, run=run)

    assert ended.returncode == 2
    assert f"needs the package {package}, which is not installed" in ended.stderr
    assert f"fix:   pip install 'pgscheduler[{extra}]'" in ended.stderr
    assert ended.stderr.count("error PGS-007") == 1
    assert "Traceback" not in ended.stderr


def test_help_lists_commands_that_are_not_installed() -> None:
    ended = without("kopf", "pydantic", "yaml", "rich", run="--help")

    assert ended.returncode == 0
    assert all(f"\n  {name} " in ended.stdout for name in COMMANDS)


def test_start_imports_nothing_heavy() -> None:
    script = (
        "import sys; sys.argv = ['pgscheduler', '--help']\n"
        "try:\n    from pg_scheduler.cli import main; main()\n"
        "except SystemExit: print(*[m for m in ('rich', 'kopf', 'pydantic', 'yaml', 'aiohttp') if m in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout

    assert shown.splitlines()[-1] == ""
