"""A real server with TLS: who is believed, who is refused, and that a new CA is taken without a restart.

The address is 0.0.0.0, which leads to this machine and is no loopback address: what holds between machines holds there.
PostgreSQL 15 alone, since the wheel of the newest has no TLS; all that is tested happens before a statement is sent.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

import asyncpg
import pytest

from pg_scheduler._store.connections import connect_like, connect_to, open_pool, place_of
from pg_scheduler._store.database import Database
from pg_scheduler._store.tls import secured, secured_dsn
from pg_scheduler.control import Control
from pg_scheduler.errors import UntrustedServer
from support.certificates import Certificate, authority, signed
from support.needs import needs
from support.own_server import own_server
from support.sockets import free_port
from support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pg_scheduler.embedded import EmbeddedPostgres

pytestmark = [needs("postgresql-15"), needs("openssl"), pytest.mark.newest_postgres]
SECRET = "s3cr3t-canary"  # noqa: S105  a canary, not a password
RELEASE = 15
SPEAKS_TLS = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
HBA = ("host all all 0.0.0.0/0 scram-sha-256",)


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsServer:
    """A server, its certificate's file in its data folder, and who may sign for it."""

    embedded: EmbeddedPostgres
    port: str
    folder: Path
    ours: Certificate
    foreign: Certificate

    def dsn(self, *, authority: Path | None = None, host: str = "0.0.0.0", **options: str) -> str:  # noqa: S104
        named = {} if authority is None else {"sslrootcert": str(authority)}
        query = "&".join(f"{name}={quote(value)}" for name, value in (named | options).items())
        return f"postgresql://app:{SECRET}@{host}:{self.port}/postgres" + (f"?{query}" if query else "")

    async def show(self, certificate: Certificate | None) -> None:
        """From the next connection on the server shows this, or no TLS at all."""
        admin = await asyncpg.connect(self.embedded.dsn)
        try:
            loaded = await admin.fetchval("SELECT pg_conf_load_time()")
            if certificate is not None:
                self._install(certificate)
            await admin.execute(f"ALTER SYSTEM SET ssl = {'off' if certificate is None else 'on'}")
            await admin.execute("SELECT pg_reload_conf()")

            async def is_loaded() -> bool:
                return bool(await admin.fetchval("SELECT pg_conf_load_time() > $1", loaded))

            await until(is_loaded, what="the server has read its settings again")
        finally:
            await admin.close()

    def _install(self, certificate: Certificate) -> None:
        owner = self.folder.stat()
        for source, name in ((certificate.file, "server.crt"), (certificate.key, "server.key")):
            new = self.folder / f"{name}.new"
            shutil.copyfile(source, new)
            new.chmod(0o600)
            os.chown(new, owner.st_uid, owner.st_gid)
            new.replace(self.folder / name)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsServer]:
    folder = tmp_path_factory.mktemp("tls")
    port = str(free_port())
    address = {"listen_addresses": "0.0.0.0", "port": port}  # noqa: S104
    with own_server(folder / "data", release=RELEASE, hba=HBA, **address) as embedded:
        yield TlsServer(
            embedded=embedded,
            port=port,
            folder=folder / "data",
            ours=authority(folder, "ours"),
            foreign=authority(folder, "foreign"),
        )


@pytest.fixture(autouse=True)
async def _user(server: TlsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server proves to be 0.0.0.0, to whom trusts our authority; nothing around the test says whom to trust."""
    await server.show(signed(server.ours, tmp_path, "server", names="IP:0.0.0.0,DNS:db.example"))
    admin = await asyncpg.connect(server.embedded.dsn)
    if not await admin.fetchval("SELECT count(*) FROM pg_roles WHERE rolname = 'app'"):
        await admin.execute(f"CREATE USER app PASSWORD '{SECRET}'")
    await admin.close()
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("PGSSLMODE", "PGSSLROOTCERT"):
        monkeypatch.delenv(name, raising=False)


async def connected(dsn: str) -> bool:
    """Whether TLS was spoken; as the commands connect."""
    connection = await connect_to(secured_dsn(dsn, allow_insecure=False), command_timeout=None)
    try:
        return bool(await connection.fetchval(SPEAKS_TLS))
    finally:
        await connection.close()


async def test_the_right_server_is_believed_and_tls_is_spoken_unasked(
    server: TlsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await connected(server.dsn(authority=server.ours.file))

    monkeypatch.setenv("PGSSLROOTCERT", str(server.ours.file))
    assert await connected(server.dsn())


async def refused(dsn: str) -> UntrustedServer:
    with pytest.raises(UntrustedServer) as caught:
        await connected(dsn)
    assert SECRET not in str(caught.value)
    assert SECRET not in repr(caught.value.__cause__)
    assert caught.value.fix
    return caught.value


async def test_a_server_of_another_authority_is_refused(server: TlsServer) -> None:
    error = await refused(server.dsn(authority=server.foreign.file))

    assert "certificate" in error.why
    assert f"host 0.0.0.0:{server.port}" in error.why


async def test_a_server_of_another_name_is_refused(server: TlsServer, tmp_path: Path) -> None:
    await server.show(signed(server.ours, tmp_path, "other", names="DNS:other.example"))

    error = await refused(server.dsn(authority=server.ours.file))

    assert "mismatch" in error.why


async def test_a_server_without_tls_is_refused_unless_it_is_allowed(server: TlsServer) -> None:
    await server.show(None)

    error = await refused(server.dsn(authority=server.ours.file))

    assert "it offers no TLS" in error.why
    assert "PGSCHEDULER_ALLOW_INSECURE" in error.fix
    allowed = await connect_to(secured_dsn(server.dsn(), allow_insecure=True), command_timeout=None)
    await allowed.close()


@pytest.mark.parametrize("how", ["none named", "missing", "no certificate"])
async def test_without_an_authority_to_ask_the_file_is_blamed_and_not_the_server(
    server: TlsServer, tmp_path: Path, how: str
) -> None:
    file = tmp_path / "ca.crt"
    if how == "no certificate":
        file.write_text("nothing of the kind")

    error = await refused(server.dsn(authority=None if how == "none named" else file))

    assert str(tmp_path / ".postgresql/root.crt" if how == "none named" else file) in error.what
    assert "sslrootcert" in error.fix


async def test_a_new_authority_is_taken_by_the_next_connection_of_a_pool_that_lives(
    server: TlsServer, tmp_path: Path
) -> None:
    trusted = tmp_path / "ca.crt"
    shutil.copyfile(server.ours.file, trusted)
    dsn = secured(server.dsn(authority=trusted), allow_insecure=False)
    pool = await open_pool(dsn, size=1, eager=True)
    database = Database(pool, place=place_of(pool))
    try:
        await server.show(signed(server.foreign, tmp_path, "renewed", names="IP:0.0.0.0"))
        await pool.expire_connections()
        with pytest.raises(UntrustedServer):
            await database.fetchval("SELECT 1")

        shutil.copyfile(server.foreign.file, trusted)
        assert await database.fetchval(SPEAKS_TLS)
        engines = await connect_like(pool, command_timeout=None)
        assert await engines.fetchval(SPEAKS_TLS)
        await engines.close()
    finally:
        await database.close()


async def test_the_control_side_decides_the_same(server: TlsServer) -> None:
    async with Control(server.dsn(authority=server.foreign.file)) as control:
        with pytest.raises(UntrustedServer):
            await control.check()

    async with Control(server.dsn(sslmode="prefer"), allow_insecure=True) as control:
        await control.check()
