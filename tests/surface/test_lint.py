"""``pgscheduler lint``: what is wrong with the schedules of manifests, or will be."""

from __future__ import annotations

import json
import re
import shlex
from typing import TYPE_CHECKING

import pytest

from pg_scheduler_operator.cli.parameters import TOPICS
from support.paths import ROOT
from support.shop_manifests import SHOP

if TYPE_CHECKING:
    from pathlib import Path

    from support.commands import RunCommand

MARCH = ("--from", "2026-03-01T00:00Z")
FINDINGS = """\
shop.yaml:PeriodicJob shop/nightly-report: deadline: 1 of 30 runs start later than startingDeadlineSeconds 60, up to \
100s, 2026-03-08T07:00:00Z; add slots, or allow for a longer deadline
shop.yaml:PeriodicJob shop/nightly-report: clocks: 02:30 does not exist that day (clocks go forward): runs when the \
gap ends, 2026-03-08T07:00:00Z; take another hour, or say so by nonexistent- or ambiguousTimePolicy
shop.yaml:PeriodicJob shop/sync-crm: overlap: 4203 of 8640 runs are skipped, since the one before has not ended, \
2026-03-01T00:10:00Z; leave more time between ticks, or take overlapPolicy Queue, Replace or Allow
shop.yaml:namespace shop: capacity: 3 slots are wanted and there are 2, 2026-03-08T07:00:00Z; spread the ticks, for \
instance by jitterSeconds, or add slots
"""
QUIET = """\
apiVersion: pgscheduler.io/v1alpha1
kind: PeriodicJob
metadata:
  name: quiet
spec:
  schedule:
    cron: ["0 4 * * *"]
  jobTemplate:
    spec:
      task: reports.quiet
"""


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    file = tmp_path / "shop.yaml"
    file.write_text(SHOP)
    return file


@pytest.mark.usefixtures("shop")
def test_each_finding_is_a_line_with_its_place_and_what_to_do(pgscheduler: RunCommand) -> None:
    ended = pgscheduler("lint", "shop.yaml", *MARCH)

    assert (ended.exit_code, ended.err) == (1, "4 findings in 4 objects\n")
    assert ended.out == FINDINGS


def test_nothing_wrong_is_exit_code_0(pgscheduler: RunCommand, tmp_path: Path) -> None:
    (tmp_path / "quiet.yaml").write_text(QUIET)

    ended = pgscheduler("lint", "quiet.yaml", *MARCH)

    assert (ended.exit_code, ended.out, ended.err) == (0, "", "no findings in 1 object\n")


@pytest.mark.usefixtures("shop")
@pytest.mark.parametrize(
    ("arguments", "exit_code"),
    [
        (("--fail-on", "overlap"), 1),
        (("--fail-on", "clocks"), 1),
        (("--fail-on", "kubernetes,arguments"), 0),
        (("--fail-on", ""), 0),
        (("--fail-on", "deadline", "--horizon", "7d"), 0),
        (("--fail-on", "capacity", "--slots", "3"), 0),
        (("--fail-on", "overlap", "--duration", "sync-crm=300"), 0),
    ],
)
def test_the_exit_code_is_that_of_the_topics_asked_for(
    pgscheduler: RunCommand, arguments: tuple[str, ...], exit_code: int
) -> None:
    assert pgscheduler("lint", "shop.yaml", *MARCH, *arguments).exit_code == exit_code


@pytest.mark.usefixtures("shop")
def test_json_is_a_list_of_findings(pgscheduler: RunCommand) -> None:
    found = json.loads(pgscheduler("lint", "shop.yaml", *MARCH, "-o", "json").out)

    assert [each["topic"] for each in found] == ["deadline", "clocks", "overlap", "capacity"]
    assert found[0] == {
        "file": "shop.yaml",
        "object": "PeriodicJob shop/nightly-report",
        "topic": "deadline",
        "what": "1 of 30 runs start later than startingDeadlineSeconds 60, up to 100s",
        "at": "2026-03-08T07:00:00Z",
        "fix": "add slots, or allow for a longer deadline",
    }


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("0 4 * * *", "0 25 * * *", "invalid: hour '25': it is not within 0 to 23; give a value from 0 to 23"),
        ("0 4 * * *", "0 0 31 4 *", "invalid: '0 0 31 4 *' never fires"),
        ("task:", "tusk:", "invalid: spec.jobTemplate.spec.task is missing; see kubectl explain"),
        ("0 4 * * *", "0 0 */2 * FRI", "kubernetes: day-of-month */2 and day-of-week FRI have both to match"),
        ("    cron:", '    endTime: "2026-02-01T00:00:00Z"\n    cron:', "never: it has no run any more"),
        (
            "reports.quiet",
            "reports.quiet\n      kwargs: {id: 9007199254740993}",
            "arguments: its arguments hold a number",
        ),
    ],
)
def test_what_can_be_seen_without_a_simulation_is_told(
    pgscheduler: RunCommand, tmp_path: Path, old: str, new: str, line: str
) -> None:
    (tmp_path / "quiet.yaml").write_text(QUIET.replace(old, new, 1))

    ended = pgscheduler("lint", "quiet.yaml", *MARCH)

    assert f"quiet.yaml:PeriodicJob default/quiet: {line}" in ended.out
    assert ended.exit_code == ("invalid" in line)


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        ("Skip", "15 of 30 runs are skipped, since the one before has not ended"),
        ("Queue", "3 of 30 runs are skipped, since one waits already"),
        ("Replace", "29 of 30 runs are replaced by the next one"),
    ],
)
def test_an_overlap_is_told_in_the_words_of_its_policy(
    pgscheduler: RunCommand, tmp_path: Path, policy: str, words: str
) -> None:
    (tmp_path / "quiet.yaml").write_text(QUIET.replace("  jobTemplate:", f"  overlapPolicy: {policy}\n  jobTemplate:"))

    ended = pgscheduler("lint", "quiet.yaml", *MARCH, "--duration", "quiet=100000")

    assert words in ended.out


def test_the_repeated_night_is_told_once_a_schedule(pgscheduler: RunCommand, tmp_path: Path) -> None:
    (tmp_path / "quiet.yaml").write_text(
        QUIET.replace('["0 4 * * *"]', '["*/10 1 * * *"]\n    timeZone: Europe/London')
    )

    ended = pgscheduler("lint", "quiet.yaml", "--from", "2026-10-20T00:00Z", "--horizon", "2w")

    (line,) = ended.out.splitlines()
    assert "clocks: 01:00 occurs twice that day (clocks go back): runs the first time, 2026-10-25T00:00:00Z" in line


def test_a_file_that_cannot_be_read_does_not_hide_the_others(pgscheduler: RunCommand, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("kind: [")
    (tmp_path / "b.yaml").write_text(QUIET.replace("0 4", "0 25"))

    ended = pgscheduler("lint", ".", *MARCH)

    assert ended.exit_code == 1
    assert [line.partition(": ")[0] for line in ended.out.splitlines()] == [
        "a.yaml",
        "b.yaml:PeriodicJob default/quiet",
    ]


def test_every_invalid_example_is_found(pgscheduler: RunCommand) -> None:
    folder = ROOT / "examples" / "invalid"

    found = json.loads(pgscheduler("lint", str(folder), *MARCH, "-o", "json").out)

    invalid = {each["file"].rpartition("/")[2] for each in found if each["topic"] == "invalid"}
    assert {file.name for file in folder.glob("*.yaml")} - invalid == {"unknown-task.yaml"}  # no worker is asked


@pytest.mark.usefixtures("shop")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "Missing argument 'FILE...'"),
        (("shop.yaml", "--horizon", "30"), "no time such as 12h, 30d or 8w"),
        (("shop.yaml", "--fail-on", "overlaps"), "'overlaps' is none of invalid, never, overlap"),
        (("shop.yaml", "--horizon", "400d"), "at most 366 days"),
    ],
)
def test_wrong_usage_says_what_to_write(pgscheduler: RunCommand, arguments: tuple[str, ...], words: str) -> None:
    ended = pgscheduler("lint", *arguments)

    assert ended.exit_code == 2
    assert words in ended.err


def test_the_reference_explains_every_topic() -> None:
    page = (ROOT / "docs" / "reference" / "configuration.md").read_text(encoding="utf-8")
    (section,) = re.findall(r"^## pgscheduler lint\n(.*?)^## ", page, re.MULTILINE | re.DOTALL)

    assert tuple(re.findall(r"^- `(\w+)`: ", section, re.MULTILINE)) == TOPICS


def test_the_how_to_shows_what_the_commands_print(pgscheduler: RunCommand, tmp_path: Path) -> None:
    page = (ROOT / "docs" / "how-to" / "check-schedules.md").read_text(encoding="utf-8")
    (tmp_path / "manifests").mkdir()
    (tmp_path / "manifests" / "shop.yaml").write_text(SHOP)

    shown = re.findall(r"^```text\n\$ pgscheduler (.*?)\n(.*?)^```", page, re.MULTILINE | re.DOTALL)

    assert [command.split()[0] for command, _ in shown] == ["simulate", "lint"]
    for command, printed in shown:
        assert pgscheduler(*shlex.split(command)).out == printed


def test_the_program_of_the_how_to_runs(capsys: pytest.CaptureFixture[str]) -> None:
    page = (ROOT / "docs" / "how-to" / "check-schedules.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)

    exec(compile(program, "check-schedules.md", "exec"), {})  # noqa: S102 (our own page)

    assert "coalesced 2026-03-09 02:30:00+00:00" in capsys.readouterr().out
