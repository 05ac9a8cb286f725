"""Whom a connection string trusts: over a network only a server that proves its name, by TLS.

Invariant: a string that leaves here takes no server's word for who it is, unless that is on this machine or the caller
has allowed it. Files of certificates are read again for each connection, so that they may be replaced meanwhile.
"""

import os
import ssl
from collections.abc import Callable, Sequence
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import TypeAlias
from urllib.parse import parse_qs, unquote, urlsplit

from pg_scheduler._store.dsn import checked_dsn, where
from pg_scheduler.errors import InvalidDsn, UntrustedServer

Dsn: TypeAlias = str | Callable[[], str]
"""A connection string, or what each connection asks for it."""

_PROVES_ITS_NAME = "verify-full"
_PROVES_SOMETHING = ("verify-ca", _PROVES_ITS_NAME)
_ALLOW = "on a network that you trust wholly, allow it: --allow-insecure, or PGSCHEDULER_ALLOW_INSECURE=true"
_AUTHORITY = "name the file of the CA that signed the server's certificate: sslrootcert=… in the DSN, or $PGSSLROOTCERT"


def secured(dsn: Dsn, *, allow_insecure: bool) -> Dsn:
    """As ``secured_dsn``; a function stays one, since what it answers may change."""
    if isinstance(dsn, str):
        return secured_dsn(dsn, allow_insecure=allow_insecure)
    return partial(_secured_answer, dsn, allow_insecure=allow_insecure)


def _secured_answer(dsn: Callable[[], str], *, allow_insecure: bool) -> str:
    return secured_dsn(dsn(), allow_insecure=allow_insecure)


def secured_dsn(text: str, *, allow_insecure: bool) -> str:
    """The string, with ``sslmode=verify-full`` if it leads over a network and neither it nor $PGSSLMODE says another.

    ``require`` is refused with the weaker ones: it encrypts for whoever answers, so that who stands between reads all.

    Raises:
        InvalidDsn: the string cannot be used, or would take any server's word for who it is.
    """
    dsn = checked_dsn(text)
    if allow_insecure or all(map(_is_on_this_machine, _hosts(dsn))):
        return dsn
    modes = _modes(dsn)
    if weak := next((mode for mode in modes if mode not in _PROVES_SOMETHING), None):
        raise InvalidDsn(
            f"sslmode={weak} would trust whoever answers at that address",
            why=where(dsn),
            fix=f"use sslmode={_PROVES_ITS_NAME}; or {_ALLOW}",
        )
    return dsn if modes else _with_option(dsn, f"sslmode={_PROVES_ITS_NAME}")


def require_authority(dsn: str) -> None:
    """Look at the file that a server's certificate is to be checked with; where it is amiss, asyncpg blames the server.

    Raises:
        UntrustedServer: there is none, or it cannot be read.
    """
    modes = _modes(dsn)
    if not modes or modes[-1] not in _PROVES_SOMETHING:
        return
    named = parse_qs(urlsplit(dsn).query).get("sslrootcert", [os.environ.get("PGSSLROOTCERT")])[-1]
    file = Path(named) if named else Path("~/.postgresql/root.crt").expanduser()
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=file)
    except OSError as error:
        raise UntrustedServer(
            f"nothing to check PostgreSQL's certificate with: {file} cannot be read",
            why=f"{type(error).__name__}; {where(dsn)}",
            fix=f"{_AUTHORITY}; or {_ALLOW}",
        ) from error


def untrusted(error: OSError, place: str) -> UntrustedServer | None:
    """What the driver raises when the server does not prove who it is; None for whatever else."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return UntrustedServer(
            "PostgreSQL does not prove who it is", why=f"{error.verify_message.rstrip('.')}; {place}", fix=_AUTHORITY
        )
    if "rejected SSL upgrade" in str(error):  # asyncpg's own words: it has no class for that
        return UntrustedServer(
            "PostgreSQL does not prove who it is",
            why=f"it offers no TLS; {place}",
            fix=f"switch TLS on in the server; or {_ALLOW}",
        )
    return None


def _modes(dsn: str) -> Sequence[str]:
    """As asyncpg reads them: the last one counts, and the variable where there is none."""
    given = parse_qs(urlsplit(dsn).query).get("sslmode")
    return given or list(filter(None, [os.environ.get("PGSSLMODE")]))


def _with_option(dsn: str, option: str) -> str:
    parts = urlsplit(dsn)
    return parts._replace(query="&".join(filter(None, (parts.query, option)))).geturl()


def _hosts(dsn: str) -> Sequence[str]:
    """As asyncpg reads them: those before the path, else those of the option."""
    parts = urlsplit(dsn)
    addresses = parts.netloc.rpartition("@")[2]
    if addresses:
        return [unquote(_without_port(address)) for address in addresses.split(",")]
    return [_without_port(address) for host in parse_qs(parts.query)["host"][-1:] for address in host.split(",")]


def _without_port(address: str) -> str:
    if address.startswith("["):
        return address[1:].partition("]")[0]
    return address if address.startswith("/") else address.partition(":")[0]


def _is_on_this_machine(host: str) -> bool:
    if host.startswith("/") or host.lower() == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
