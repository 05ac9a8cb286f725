"""``kubectl pgscheduler`` as a process: its help, its page, and what it says when kubectl cannot do it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import EntryPoint
from typing import TYPE_CHECKING

import click
import pytest
from click.testing import CliRunner

from pg_scheduler_operator.errors import ObjectChanged, RightMissing
from pg_scheduler_operator.plugin import main
from pg_scheduler_operator.plugin.group import plugin
from pg_scheduler_operator.plugin.kubectl import Kubectl
from pg_scheduler_operator.plugin.picture import Cause
from support.commands import Ended, RunCommand
from support.paths import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PAGE = (ROOT / "docs" / "reference" / "kubectl-plugin.md").read_text(encoding="utf-8")
COMMANDS = ("status", "next", "simulate", "explain", "trigger", "backfill", "rerun", "suspend", "resume")
OF_ALL = {"namespace", "context", "kubeconfig", "output"}


@pytest.fixture
def kubectl_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    """Put a kubectl on the PATH that complains; what it was asked is in the file ``asked``."""
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")

    def fail(complaint: str) -> None:
        stand_in = tmp_path / "kubectl"
        (tmp_path / "complaint").write_text(complaint)
        stand_in.write_text(f'#!/bin/sh\necho "$@" >> "{tmp_path}/asked"\ncat "{tmp_path}/complaint" >&2\nexit 1\n')
        stand_in.chmod(0o755)

    return fail


@pytest.fixture
def kubectl_says(kubectl_fails: Callable[[str], None]) -> RunCommand:
    """Run the plugin with a kubectl that complains: ``kubectl_says("Error …", "status")``."""

    def run(complaint: str, *arguments: str) -> Ended:
        kubectl_fails(complaint)
        return run_plugin(*arguments)

    return run


def run_plugin(*arguments: str) -> Ended:
    """In this process: each of its own takes a second to import."""
    done = CliRunner().invoke(plugin, arguments, prog_name="kubectl pgscheduler")
    return Ended(exit_code=done.exit_code, out=done.stdout, err=done.stderr)


@pytest.mark.parametrize(
    ("complaint", "code", "exit_code"),
    [
        ('Error from server (NotFound): periodicjobs.pgscheduler.io "x" not found', "PGS-046", 1),
        ("Error from server (Forbidden): periodicjobs is forbidden", "PGS-057", 1),
        ("Unable to connect to the server: dial tcp 10.0.0.1:443: i/o timeout", "PGS-045", 3),
        ('error: context "nowhere" does not exist', "PGS-043", 3),
    ],
)
def test_complaint_of_kubectl_is_an_error_with_its_exit_code(
    kubectl_says: RunCommand, complaint: str, code: str, exit_code: int
) -> None:
    block = kubectl_says(complaint, "next", "pjob/x").require_block(code, exit_code=exit_code)

    assert complaint in block


def test_options_of_kubectl_go_on_to_it(kubectl_says: RunCommand, tmp_path: Path) -> None:
    kubectl_says(
        "Error from server (NotFound): x", "next", "pjob/x", "-n", "billing", "--context", "c", "--kubeconfig", "f"
    )

    assert (tmp_path / "asked").read_text().split() == [
        "get",
        "periodicjobs.pgscheduler.io/x",
        "--output=json",
        "--namespace=billing",
        "--context=c",
        "--kubeconfig=f",
    ]


def test_objects_that_exist_already_may_be_made_again(kubectl_fails: Callable[[str], None]) -> None:
    exists = 'Error from server (AlreadyExists): scheduledjobs.pgscheduler.io "{}" already exists\n'
    kubectl_fails(exists.format("a") + exists.format("b"))

    assert Kubectl().create({}, {}, dry_run=False, may_exist=True) == []
    with pytest.raises(ObjectChanged):
        Kubectl().create({}, dry_run=False)


def test_objects_that_exist_already_do_not_hide_another_error(kubectl_fails: Callable[[str], None]) -> None:
    kubectl_fails("Error from server (AlreadyExists): a\nError from server (Forbidden): b\n")

    with pytest.raises(RightMissing):
        Kubectl().create({}, {}, dry_run=False, may_exist=True)


def test_without_kubectl_it_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    assert "install kubectl" in run_plugin("status").require_block("PGS-056", exit_code=1)


def test_missing_extra_is_one_line_to_paste() -> None:
    script = (
        "import sys; sys.modules['pydantic'] = None; sys.argv = ['kubectl-pgscheduler', 'status'];"
        "from pg_scheduler_operator.plugin import main; main()"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)

    assert ended.returncode == 2
    assert "fix:   pip install 'pgscheduler[kubectl]'" in ended.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("next",), "Missing argument 'OBJECT'"),
        (("next", "sjob/x"), "names none of pjob"),
        (("backfill", "pjob/x", "--from", "2026-11-01"), "has no time zone"),
        (("backfill", "pjob/x", "--from", "2026-11-01T00:00Z", "--to", "2999-01-01T00:00Z"), "--to lies in the future"),
    ],
)
def test_wrong_usage_asks_the_cluster_nothing(
    kubectl_says: RunCommand, tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    ended = kubectl_says("it was asked", *arguments)

    assert ended.exit_code == 2
    assert words in ended.err
    assert not (tmp_path / "asked").exists()


def test_commands_are_listed_with_a_whole_sentence() -> None:
    shown = CliRunner().invoke(plugin, ["--help"]).output

    assert tuple(plugin.commands) == COMMANDS
    assert [name for name in COMMANDS if not re.search(rf"^  {name} .*[^.]\.$", shown, re.MULTILINE)] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_explained_with_an_example(name: str) -> None:
    command = plugin.commands[name]

    assert CliRunner().invoke(plugin, [name, "--help"]).exit_code == 0
    assert command.epilog is not None
    assert command.epilog.startswith(f"Example: kubectl pgscheduler {name} ")
    assert [option.name for option in options_of(command) if not option.help] == []
    assert {option.name for option in options_of(command)} >= OF_ALL


def options_of(command: click.Command) -> list[click.Option]:
    return [option for option in command.params if isinstance(option, click.Option)]


def section(title: str) -> str:
    (text,) = re.findall(rf"^## {title}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    return str(text)


def rows_of(text: str) -> list[list[str]]:
    return [
        [cell.strip().strip("`") for cell in row.split("|")[1:-1]]
        for row in re.findall(r"^\| `.*$", text, re.MULTILINE)
    ]


@pytest.mark.parametrize("name", COMMANDS)
def test_page_has_every_option_with_its_default_and_help(name: str) -> None:
    command = plugin.commands[name]
    told = [row for row in rows_of(section(name)) if row[0].startswith("--")]

    assert told == [
        [
            option.opts[-1],
            "" if option.is_flag or not isinstance(option.default, str | int | float) else str(option.default),
            option.help,
        ]
        for option in options_of(command)
        if option.name not in OF_ALL
    ]
    assert str(command.epilog).removeprefix("Example: ") in section(name)


def test_page_has_every_cause_and_the_rights_of_every_command() -> None:
    causes = [row[0] for row in rows_of(section("explain")) if not row[0].startswith("--")]
    rights = {name for row in rows_of(section("Rights")) for name in row[0].split("`, `")}

    assert causes == [cause.value for cause in Cause]
    assert rights == set(COMMANDS)


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys; sys.argv = ['kubectl-pgscheduler', 'status', '--help']\n"
        "try:\n    from pg_scheduler_operator.plugin import main; main()\n"
        "except SystemExit: print(*[m for m in ('rich', 'kopf', 'pydantic', 'yaml') if m in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout

    assert shown.splitlines()[-1] == ""


def test_kubectl_finds_it_by_the_name_of_its_program() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]

    program = EntryPoint("kubectl-pgscheduler", scripts["kubectl-pgscheduler"], "console_scripts")

    assert program.load() is main
