"""Names of zones, and the changes of their clocks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
import tzdata

from pg_scheduler._domain import zones
from pg_scheduler._domain.rules import Cron
from pg_scheduler.errors import InvalidSchedule
from support import cron_oracle
from support.cost import lines_run
from support.paths import LIBRARY
from support.schedules_proof import changes, known_changes, zone_names

if TYPE_CHECKING:
    from pathlib import Path

FIXED_OR_RULED = ["Etc/UTC", "Asia/Kolkata", "America/New_York", "Africa/Casablanca", "Pacific/Apia"]


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("Mars/Phobos", ""),
        ("../etc/passwd", ""),
        ("/etc/localtime", ""),
        ("Europe", "Europe/"),
        ("localtime", ""),
        ("utc", "UTC"),
        ("UTC+3", "Etc/GMT-3"),
        ("GMT-05:00", "Etc/GMT+5"),
        ("UTC+99", "UTC"),
        ("Berlin", "Europe/Berlin"),
        ("europe/berlin", "Europe/Berlin"),
        ("America/NewYork", "America/New_York"),
        ("Asia/Calcuta", "Asia/Calcutta"),
        ("Europe/Berlin\x00", "Europe/Berlin"),
        ("Europe/Berlin ", "Europe/Berlin"),
        ("Etc/UTC/../UTC", "UTC"),
        ("x" * 300, ""),
        ("\ud800", ""),
    ],
)
def test_unknown_zone_is_refused_with_the_nearest_names(name: str, nearest: str) -> None:
    with pytest.raises(InvalidSchedule, match="there is no time zone") as caught:
        Cron(("0 0 * * *",), name)

    offered = caught.value.fix.partition("the nearest are ")[2].split(", ")
    assert caught.value.field == "timeZone"
    assert len(offered) == 3
    assert set(offered) <= zones.names()
    assert any(nearest in offer for offer in offered[:1])
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize("name", ["", None, 5])
def test_no_zone_is_refused(name: str) -> None:
    with pytest.raises(InvalidSchedule, match="no time zone") as caught:
        Cron(("0 0 * * *",), name)

    assert caught.value.field == "timeZone"


def test_nearest_names_are_found_at_once() -> None:
    """The first call sets up the pairs of letters of all names."""
    zones.nearest("warm")

    _, lines = lines_run(lambda: zones.nearest("Europe/Berlin" * 30))

    assert lines < 20_000


def test_every_name_is_served() -> None:
    assert {zones.zone(name).key for name in zones.names()} == set(cron_oracle.zone_names())


def test_version_is_that_of_the_package() -> None:
    assert zones.version() == tzdata.IANA_VERSION


def test_machine_is_never_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "Europe").mkdir()
    (tmp_path / "Europe" / "Oslo").write_bytes(cron_oracle.data_of("Asia/Tokyo"))
    monkeypatch.setenv("PYTHONTZPATH", str(tmp_path))
    zones.zone.cache_clear()
    import zoneinfo  # noqa: PLC0415  where the machine's zones are set for this process

    zoneinfo.reset_tzpath(to=[str(tmp_path)])
    try:
        noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
        assert noon.astimezone(zoneinfo.ZoneInfo.no_cache("Europe/Oslo")).hour == 21
        assert noon.astimezone(zones.zone("Europe/Oslo")).hour == 13
    finally:
        zoneinfo.reset_tzpath()


def test_only_one_function_reads_zones() -> None:
    makers = [
        path for path in LIBRARY.rglob("*.py") if "ZoneInfo(" in path.read_text() or ".from_file" in path.read_text()
    ]

    assert [path.name for path in makers] == ["zones.py"]


def test_no_zone_changes_twice_between_two_looks() -> None:
    """What lets ``changes_in`` look every few days: all changes that the files list, since there are clocks."""
    shortest = min(
        later - earlier
        for name in zone_names()
        for (earlier, _, _), (later, _, _) in pairwise(cron_oracle.listed_changes(name))
    )

    assert shortest > 2 * zones.STEP


def test_changes_are_those_of_the_files() -> None:
    """All that they list of these years; ``make schedules-proof`` looks at every year to 2040."""
    for name in zone_names():
        listed = [
            zones.Change(at, timedelta(seconds=before), timedelta(seconds=after))
            for at, before, after in cron_oracle.listed_changes(name)
        ]
        first, end = (
            datetime(2011, 1, 1, tzinfo=UTC),
            min([datetime(2014, 1, 1, tzinfo=UTC), *(c.at for c in listed[-1:])]),
        )

        assert not listed or zones.changes_between(zones.zone(name), first, end) == [
            change for change in listed if first <= change.at <= end
        ], name


@pytest.mark.parametrize("name", FIXED_OR_RULED)
def test_changes_are_those_of_the_files_rule(name: str) -> None:
    assert known_changes(name) == changes(name)


def test_years_at_the_ends_of_time_have_no_changes() -> None:
    zone = zones.zone("America/New_York")

    assert zones.changes_in(zone, 1) == zones.changes_in(zone, 9999) == ()
    assert len(zones.changes_in(zone, 9998)) == 2
