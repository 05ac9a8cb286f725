from __future__ import annotations

import pytest

from pg_scheduler.errors import InvalidArgument
from pg_scheduler_operator import settings

DSN = "postgresql://u:s3cret@db/app"


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CLUSTER_NAME", "WATCH_NAMESPACES"):
        monkeypatch.delenv(f"PGSCHEDULER_{name}", raising=False)
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


def test_password_is_never_shown() -> None:
    assert "s3cret" not in repr(settings.load())


@pytest.mark.parametrize(
    ("variable", "value"),
    [("DSN", None), ("DSN", ""), ("CLUSTER_NAME", "A b"), ("CLUSTER_NAME", ""), ("WATCH_NAMESPACES", "a, B!")],
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
