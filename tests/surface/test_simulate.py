"""``pgscheduler simulate``: what the schedules of manifests will do."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from support.shop_manifests import SHOP

if TYPE_CHECKING:
    from pathlib import Path

    from support.commands import RunCommand

DAY = ("--from", "2026-03-08T00:00Z", "--to", "2026-03-09T00:00Z")
TABLE = """\
SCHEDULE                  PLANNED  RAN  SKIPPED  SUSPENDED  REPLACED  MISSED  COALESCED  OPEN  LONGEST LATENESS
shop/nightly-report       1        1    0        0          0         0       0          0     100s
shop/stock-taking (once)  1        1    0        0          0         0       0          0     0s
shop/sync-crm             288      144  143      0          0         0       0          1     40m00s

peak in namespace shop: 2 of 2 slots at 2026-03-08T07:00:00Z; 3 are wanted
"""
RUNS = """\
PLANNED               SCHEDULE                  OUTCOME          STARTED               ENDED                 LATENESS
2026-03-08T06:55:00Z  shop/sync-crm             ran              2026-03-08T06:55:00Z  2026-03-08T07:01:40Z  0s
2026-03-08T07:00:00Z  shop/nightly-report       open             2026-03-08T07:01:40Z  -                     100s
2026-03-08T07:00:00Z  shop/stock-taking (once)  open             2026-03-08T07:00:00Z  -                     0s
2026-03-08T07:00:00Z  shop/sync-crm             skipped_overlap  -                     2026-03-08T07:00:00Z  0s
"""


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    file = tmp_path / "shop.yaml"
    file.write_text(SHOP)
    return file


@pytest.mark.usefixtures("shop")
def test_a_table_counts_what_becomes_of_each_schedule(pgscheduler: RunCommand) -> None:
    ended = pgscheduler("simulate", "shop.yaml", *DAY)

    assert (ended.exit_code, ended.err, ended.out) == (0, "", TABLE)


def test_a_folder_is_its_files(pgscheduler: RunCommand, tmp_path: Path) -> None:
    (tmp_path / "manifests").mkdir()
    for number, text in enumerate(SHOP.split("---\n")):
        (tmp_path / "manifests" / f"{number}.yaml").write_text(text)
    (tmp_path / "manifests" / "0.status.yaml").write_text("status: {}")

    assert pgscheduler("simulate", "manifests", *DAY).out == TABLE


@pytest.mark.usefixtures("shop")
def test_options_go_before_what_the_files_say(pgscheduler: RunCommand) -> None:
    ended = pgscheduler(
        *("simulate", "shop.yaml", *DAY, "--slots", "25"),
        *("--duration", "sync-crm=10", "--duration", "shop/nightly-report=60", "-o", "json"),
    )

    (namespace,) = json.loads(ended.out)["namespaces"]
    skipped = {each["name"]: each["skipped_overlap"] for each in namespace["schedules"]}
    assert (namespace["slots"], skipped["shop/sync-crm"]) == (25, 0)
    assert namespace["lateness"] == {"p50_seconds": 0, "p99_seconds": 0, "max_seconds": 0, "max_at": None}


@pytest.mark.usefixtures("shop")
def test_json_holds_counts_and_runs(pgscheduler: RunCommand) -> None:
    ended = pgscheduler(
        *("simulate", "shop.yaml", "--from", "2026-03-08T06:56Z", "--to", "2026-03-08T07:12Z", "--runs", "-o", "json")
    )

    told = json.loads(ended.out)
    (namespace,) = told["namespaces"]
    nightly = namespace["schedules"][0]
    assert (told["from"], told["to"]) == ("2026-03-08T06:56:00Z", "2026-03-08T07:12:00Z")
    assert namespace["peak"] == {"running": 2, "wanted": 3, "at": "2026-03-08T07:01:00Z"}
    assert nightly == {
        "name": "shop/nightly-report",
        "planned": 1,
        "open": 1,
        "ran": 0,
        "coalesced": 0,
        "skipped_overlap": 0,
        "skipped_suspended": 0,
        "missed": 0,
        "cancelled": 0,
        "lateness": {"p50_seconds": 0.0, "p99_seconds": 0.0, "max_seconds": 0.0, "max_at": None},
        "ranges": [],
    }
    assert [(run["schedule"], run["planned_at"][11:16], run["outcome"]) for run in namespace["runs"]] == [
        ("shop/nightly-report", "07:00", "open"),
        ("shop/stock-taking (once)", "07:00", "open"),
        ("shop/sync-crm", "07:01", "open"),
        ("shop/sync-crm", "07:06", "open"),
        ("shop/sync-crm", "07:11", "open"),
    ]


@pytest.mark.usefixtures("shop")
def test_runs_are_listed_one_a_line(pgscheduler: RunCommand) -> None:
    ended = pgscheduler("simulate", "shop.yaml", "--from", "2026-03-08T06:50Z", "--to", "2026-03-08T07:02Z", "--runs")

    assert ended.out.endswith(RUNS)


def test_what_is_suspended_is_told_in_a_range(pgscheduler: RunCommand, shop: Path) -> None:
    shop.write_text(SHOP.replace("spec:\n  schedule:", "spec:\n  suspend: true\n  suspendReason: move\n  schedule:", 1))

    (namespace,) = json.loads(pgscheduler("simulate", "shop.yaml", *DAY, "-o", "json").out)["namespaces"]

    (told,) = [each for each in namespace["schedules"] if each["name"] == "shop/sync-crm"]
    assert (told["planned"], told["skipped_suspended"]) == (288, 288)
    assert told["ranges"][0]["reason"] == "move"


@pytest.mark.usefixtures("shop")
def test_without_instants_it_is_the_day_from_now(pgscheduler: RunCommand) -> None:
    before = datetime.now(UTC).replace(microsecond=0)

    told = json.loads(pgscheduler("simulate", "shop.yaml", "-o", "json").out)

    begins, ends = (datetime.fromisoformat(told[name]) for name in ("from", "to"))
    assert (ends - begins).days == 1
    assert begins >= before


@pytest.mark.usefixtures("shop")
@pytest.mark.parametrize("form", ["svg", "png"])
def test_a_picture_is_drawn_the_same_each_time(pgscheduler: RunCommand, tmp_path: Path, form: str) -> None:
    first, second = (tmp_path / f"{name}.{form}" for name in ("first", "second"))

    ended = pgscheduler("simulate", "shop.yaml", *DAY, "--plot", first.name)
    pgscheduler("simulate", "shop.yaml", *DAY, "--plot", second.name)

    assert ended.err == f"drawn: first.{form}\n"
    assert first.read_bytes() == second.read_bytes()
    if form == "svg":
        assert "namespace shop: at most 2 run, 3 are wanted at 2026-03-08T07:00:00Z" in first.read_text()


def test_a_picture_without_matplotlib_is_one_line_to_paste() -> None:
    script = (
        "import sys; sys.modules['matplotlib'] = None;"
        f"sys.argv = ['pgscheduler', 'simulate', {__file__!r}, '--plot', 'x.svg'];"
        "from pg_scheduler.cli import main; main()"
    )

    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)

    assert ended.returncode == 2
    assert "fix:   pip install 'pgscheduler[dev]'" in ended.stderr


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("kind: [", "PGS-041", "file:  shop.yaml"),
        (SHOP.replace("30 2 * * *", "0 25 * * *"), "PGS-040", "of:    PeriodicJob shop/nightly-report"),
        (SHOP.replace('"400"', "soon"), "PGS-040", "expected-duration-seconds is 'soon'"),
        (SHOP.replace('"400"', '"-1"'), "PGS-001", "takes_seconds is -1"),
        (SHOP + "---\n" + SHOP, "PGS-041", "it is in shop.yaml already"),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_place(
    pgscheduler: RunCommand, shop: Path, text: str, code: str, words: str
) -> None:
    shop.write_text(text)

    assert words in pgscheduler("simulate", "shop.yaml", *DAY).require_block(code, exit_code=2)


@pytest.mark.usefixtures("shop")
@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--from", "2026-01-01T00:00Z", "--to", "2028-01-01T00:00Z"), "PGS-023", "at most 366 days"),
        (("--from", "2026-03-09T00:00Z", "--to", "2026-03-08T00:00Z"), "PGS-001", "give a later one"),
        ((*DAY, "--duration", "sync-crn=5"), "PGS-001", "'sync-crn'"),
    ],
)
def test_what_is_asked_too_much_is_refused(
    pgscheduler: RunCommand, arguments: tuple[str, ...], code: str, words: str
) -> None:
    assert words in pgscheduler("simulate", "shop.yaml", *arguments).require_block(code, exit_code=2)


def test_more_runs_than_anybody_reads_are_not_listed(pgscheduler: RunCommand, shop: Path) -> None:
    shop.write_text(SHOP.replace("intervalSeconds: 300", "intervalSeconds: 1"))

    ended = pgscheduler("simulate", "shop.yaml", "--from", "2026-03-08T00:00Z", "--to", "2026-03-10T00:00Z", "--runs")

    assert "more than 100,000 runs to list" in ended.require_block("PGS-023", exit_code=2)


@pytest.mark.usefixtures("shop")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "Missing argument 'FILE...'"),
        (("nowhere",), "'nowhere' does not exist"),
        (("shop.yaml", "--from", "2026-01-01"), "has no time zone"),
        (("shop.yaml", "--to", "soon"), "no instant such as"),
        (("shop.yaml", "--slots", "0"), "1<=x<=1000000"),
        (("shop.yaml", "--duration", "a"), "not of the form NAME=SECONDS"),
        (("shop.yaml", "--duration", "a=nan"), "not of the form NAME=SECONDS"),
        (("shop.yaml", "--plot", "x.pdf"), "ends neither in .svg nor in .png"),
    ],
)
def test_wrong_usage_says_what_to_write(pgscheduler: RunCommand, arguments: tuple[str, ...], words: str) -> None:
    ended = pgscheduler("simulate", *arguments)

    assert ended.exit_code == 2
    assert words in ended.err
