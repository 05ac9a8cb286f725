from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from pg_scheduler.errors import InvalidArgument, InvalidDsn
from pg_scheduler.pool_settings import RateLimit
from pg_scheduler.tenant_limits import TenantLimits
from pg_scheduler_operator import settings

if TYPE_CHECKING:
    from pathlib import Path

DSN = "postgresql://u:s3cret@db/app"


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in settings.Settings.model_fields:
        monkeypatch.delenv(f"PGSCHEDULER_{name.upper()}", raising=False)
    monkeypatch.setenv("PGSCHEDULER_DSN", DSN)


def test_settings_have_defaults_but_for_the_database() -> None:
    loaded = settings.load()

    assert loaded.read_dsn() == DSN
    assert (loaded.cluster_name, loaded.watch_namespaces) == ("default", ())


@pytest.mark.parametrize(("text", "namespaces"), [("", ()), ("a", ("a",)), (" a, b,,", ("a", "b"))])
def test_namespaces_are_parted_by_commas(
    text: str, namespaces: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGSCHEDULER_WATCH_NAMESPACES", text)

    assert settings.load().watch_namespaces == namespaces


def test_limits_of_tenants_are_json(monkeypatch: pytest.MonkeyPatch) -> None:
    text = (
        '{"billing": {"maxPending": 10, "maxRate": {"limit": 600, "perSeconds": 60}}, "*": {"minIntervalSeconds": 60}}'
    )
    monkeypatch.setenv("PGSCHEDULER_TENANT_LIMITS", text)

    limits = settings.load().tenant_limits

    assert {tenant: each.stored for tenant, each in limits.items()} == {
        "billing": TenantLimits(max_pending=10, max_rate=RateLimit(limit=600, seconds=60)),
        "*": TenantLimits(min_interval_seconds=60),
    }


@pytest.mark.parametrize("text", [None, "", "{}"])
def test_without_limits_of_tenants_there_are_none(text: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    if text is not None:
        monkeypatch.setenv("PGSCHEDULER_TENANT_LIMITS", text)

    assert settings.load().tenant_limits == {}


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('{"a": {"maxPending": 0}}', "a.maxPending"),
        ('{"a": {"maxPending": "5"}}', "a.maxPending"),
        ('{"a": {"maxRate": {"limit": 5}}}', "a.maxRate.perSeconds"),
        ('{"*": {"minIntervalSeconds": 86401}}', "*.minIntervalSeconds"),
        ('{"a": {"maxPendig": 5}}', "a.maxPendig"),
    ],
)
def test_limit_that_cannot_be_used_is_named(text: str, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGSCHEDULER_TENANT_LIMITS", text)

    with pytest.raises(InvalidArgument, match=re.escape(place)):
        settings.load()


def test_password_is_never_shown() -> None:
    assert "s3cret" not in repr(settings.load())


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("DSN", None),
        ("DSN", ""),
        ("CLUSTER_NAME", "A b"),
        ("CLUSTER_NAME", ""),
        ("WATCH_NAMESPACES", "a, B!"),
        ("LEADER_ELECTION", "perhaps"),
        ("LEASE_NAME", "No!"),
        ("STATUS_WRITES_PER_SECOND", "nan"),
        ("STATUS_WRITES_BURST", "-7"),
        ("TENANT_LIMITS", "{s3cret"),
        ("TENANT_LIMITS", "[17]"),
        ("TENANT_LIMITS", '{"Bad Name": {}}'),
    ],
)
def test_variable_that_cannot_be_used_is_named_and_not_quoted(
    variable: str, value: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if value is None:
        monkeypatch.delenv(f"PGSCHEDULER_{variable}")
    else:
        monkeypatch.setenv(f"PGSCHEDULER_{variable}", value)

    with pytest.raises(InvalidArgument) as caught:
        settings.load()

    assert f"$PGSCHEDULER_{variable}" in str(caught.value)
    assert not value or value not in str(caught.value)


def test_data_source_name_of_a_file_is_read_each_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "dsn"
    monkeypatch.delenv("PGSCHEDULER_DSN")
    monkeypatch.setenv("PGSCHEDULER_DSN_FILE", str(file))
    loaded = settings.load()
    with pytest.raises(InvalidDsn, match="FileNotFoundError") as caught:
        loaded.read_dsn()
    assert str(file) not in str(caught.value)

    for text in (DSN, f"{DSN}2"):
        file.write_text(text)
        assert loaded.read_dsn() == text


def test_two_data_source_names_are_one_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGSCHEDULER_DSN_FILE", "/dsn")

    with pytest.raises(InvalidArgument, match="both are set"):
        settings.load()


@pytest.mark.parametrize(
    ("given", "namespace"),
    [
        ({}, "of-the-pod"),
        ({"lease_namespace": "ops"}, "ops"),
        ({"leader_election": False}, None),
        ({"leader_election": False, "lease_namespace": "ops"}, None),
    ],
)
def test_lease_is_in_the_pods_namespace_unless_said_otherwise(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, given: dict[str, object], namespace: str | None
) -> None:
    file = tmp_path / "namespace"
    monkeypatch.setattr(settings, "_POD_NAMESPACE", file)
    assert settings.load().election_namespace is None
    file.write_text("of-the-pod")

    assert settings.load(**given).election_namespace == namespace


def test_every_setting_is_described_in_a_sentence() -> None:
    for name, field in settings.Settings.model_fields.items():
        assert (field.description or "").endswith("."), name
