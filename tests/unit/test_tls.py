"""Which connection strings may lead over a network, and that asyncpg reads them as we do."""

from __future__ import annotations

import ssl
from operator import attrgetter
from typing import Any

import pytest
from asyncpg import connect_utils, exceptions
from hypothesis import given
from hypothesis import strategies as st

from pg_scheduler._store.tls import secured, secured_dsn
from pg_scheduler.errors import InvalidDsn

SECRET = "s3cr3t-canary"  # noqa: S105  a canary, not a password
REMOTE = f"postgresql://app:{SECRET}@db.example:5432/app"
LOCAL = [
    "postgresql://app@localhost/app",
    "postgresql://app@LOCALHOST:5433/app",
    "postgresql://app@127.0.0.1/app",
    "postgresql://app@127.8.8.8:1,[::1]:2/app",
    "postgresql://app@/app?host=/run/postgresql",
    "postgresql://app@%2Frun%2Fpostgresql/app",
    "postgresql://app@/app?host=localhost:5433",
]
ELSEWHERE = [
    "postgresql://app@db/app",
    "postgresql://app@10.0.0.1/app",
    "postgresql://app@[fd00::1]:5432/app",
    "postgresql://app@localhost,db/app",
    "postgresql://app@db/app?host=localhost",
    "postgresql://app@/app?host=localhost&host=db",
    "postgresql://app@127.0.0.1.example/app",
    "postgresql://app@127.0.0.1%2Cdb/app",
    "postgresql://app@0.0.0.0/app",
    "postgresql://app@db/app#fragment",
]


@pytest.fixture(autouse=True)
def _no_mode_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PGSSLMODE", raising=False)


@pytest.mark.parametrize("dsn", LOCAL)
def test_what_stays_on_this_machine_needs_no_tls(dsn: str) -> None:
    assert secured_dsn(dsn, allow_insecure=False) == dsn


@pytest.mark.parametrize("dsn", ELSEWHERE)
def test_what_leads_over_a_network_proves_its_name(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    addresses, context = as_asyncpg_reads(secured_dsn(dsn, allow_insecure=False), monkeypatch)

    assert addresses
    assert proves_its_name(context)


@pytest.mark.parametrize("mode", ["disable", "allow", "prefer", "require"])
@pytest.mark.parametrize("where", ["the DSN", "the variable", "a second time"])
def test_a_mode_that_trusts_whoever_answers_is_refused(mode: str, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    dsn = REMOTE if where == "the variable" else f"{REMOTE}?sslmode={mode}"
    if where == "the variable":
        monkeypatch.setenv("PGSSLMODE", mode)
    if where == "a second time":
        dsn += "&sslmode=verify-full"

    with pytest.raises(InvalidDsn, match=f"sslmode={mode}") as caught:
        secured_dsn(dsn, allow_insecure=False)

    assert "sslmode=verify-full" in caught.value.fix
    assert "PGSCHEDULER_ALLOW_INSECURE=true" in caught.value.fix
    assert SECRET not in str(caught.value)
    assert secured_dsn(dsn, allow_insecure=True) == dsn


@pytest.mark.parametrize("mode", ["verify-ca", "verify-full"])
def test_a_mode_that_proves_something_stays(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert secured_dsn(f"{REMOTE}?sslmode={mode}", allow_insecure=False) == f"{REMOTE}?sslmode={mode}"

    monkeypatch.setenv("PGSSLMODE", mode)
    assert secured_dsn(REMOTE, allow_insecure=False) == REMOTE


def test_a_function_is_asked_each_time_and_its_answer_secured() -> None:
    answers = iter([REMOTE, f"{REMOTE}?sslmode=disable"])
    dsn = secured(lambda: next(answers), allow_insecure=False)
    assert callable(dsn)

    assert dsn() == f"{REMOTE}?sslmode=verify-full"
    with pytest.raises(InvalidDsn):
        dsn()


hosts = st.sampled_from(
    ["localhost", "db", "127.0.0.1", "[::1]", "[fd00::1]", "%2Ftmp", "10.0.0.1:1", "a@b", "::1", ""]
)
options = st.sampled_from([
    *("sslmode=prefer", "sslmode=verify-full", "%73slmode=disable", "sslmode=", "SSLMODE=disable", "ssl=off"),
    *("host=db", "host=/tmp", "host=localhost", "host=db,localhost", "host=%5B::1%5D", "port=1", "dbname=x"),
])  # fmt: skip


@given(
    addresses=st.lists(hosts, max_size=3).map(",".join),
    path=st.sampled_from(["", "/", "/app", "/app#f", "/a;b"]),
    query=st.lists(options, max_size=4).map("&".join),
    ending=st.sampled_from(["", "#f", "&", "#?sslmode=verify-full"]),
)
def test_no_string_leads_over_a_network_unproved(addresses: str, path: str, query: str, ending: str) -> None:
    text = f"postgresql://app:{SECRET}@{addresses}{path}{'?' if query else ''}{query}{ending}"
    with pytest.MonkeyPatch.context() as patch:
        try:
            found, context = as_asyncpg_reads(secured_dsn(text, allow_insecure=False), patch)
        except (InvalidDsn, exceptions.ClientConfigurationError, ValueError, IndexError):
            return  # nobody connects

    assert proves_its_name(context) or all(address.startswith("/") or address in NEAR for address in found)


NEAR = {"localhost", "127.0.0.1", "::1"}


def as_asyncpg_reads(dsn: str, patch: pytest.MonkeyPatch) -> tuple[list[str], ssl.SSLContext | None]:
    """Where asyncpg would connect to, and how; no file of certificates is read."""
    patch.setattr(ssl.SSLContext, "load_verify_locations", lambda *_, **__: None)
    names = "host port user password passfile database ssl service servicefile direct_tls server_settings"
    nothing: dict[str, Any] = dict.fromkeys([*names.split(), "target_session_attrs", "krbsrvname", "gsslib"])
    addresses, parameters = attrgetter("_parse_connect_dsn_and_args")(connect_utils)(dsn=dsn, **nothing)
    found = [address if isinstance(address, str) else address[0] for address in addresses]
    return found, parameters.ssl or None


def proves_its_name(context: ssl.SSLContext | None) -> bool:
    return context is not None and context.check_hostname and context.verify_mode is ssl.CERT_REQUIRED
