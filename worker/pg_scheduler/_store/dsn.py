"""Connection strings: checked before they are used, and named without their secrets.

Invariant: nothing that this module returns for people, and no error it raises, holds any part of a password or of a
string that could not be read.
"""

from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from pg_scheduler.errors import InvalidDsn

_SSL_MODES = frozenset({"disable", "allow", "prefer", "require", "verify-ca", "verify-full"})
_FORM = "give postgresql://user:password@host:port/database, with : / @ % in the password as %3A %2F %40 %25"


def checked_dsn(text: str) -> str:
    """The string, without white space around it.

    Raises:
        InvalidDsn: another scheme, no database server named, or an unknown sslmode.
    """
    stripped = text.strip()
    if not stripped:
        raise InvalidDsn("the PostgreSQL DSN is empty", fix=_FORM)
    parts = _split(stripped)
    if parts.scheme not in {"postgresql", "postgres"}:
        raise InvalidDsn("the DSN is not a PostgreSQL URL", fix=_FORM)
    options = parse_qs(parts.query)
    if not parts.netloc.rpartition("@")[2] and "host" not in options:
        raise InvalidDsn("the DSN names no host", fix=_FORM)
    for mode in options.get("sslmode", []):
        if mode not in _SSL_MODES:
            raise InvalidDsn("the DSN has an unknown sslmode", fix=f"use one of {', '.join(sorted(_SSL_MODES))}")
    return stripped


def where(dsn: str) -> str:
    """What a DSN points to, for an error message: host, port, database and user."""
    parts = urlsplit(dsn.strip())
    options = parse_qs(parts.query)
    host = parts.netloc.rpartition("@")[2] or unquote(options.get("host", ["?"])[0])
    user = unquote(parts.username or options.get("user", ["?"])[0])
    return f"host {host}, database {unquote(parts.path.lstrip('/')) or user}, user {user}"


def _split(text: str) -> SplitResult:
    try:
        parts = urlsplit(text)
        ports = [_port(address) for address in parts.netloc.rpartition("@")[2].split(",")]
        parse_qs(parts.query, strict_parsing=bool(parts.query))  # as strict as asyncpg will be
        (parts.hostname or "").encode("idna")
    except ValueError:
        raise InvalidDsn("the DSN cannot be read as a URL", fix=_FORM) from None
    if parts.netloc.count("@") > 1:
        raise InvalidDsn("the DSN has more than one @ before its database", fix=_FORM)
    if not all(port == "" or port.isdecimal() for port in ports):
        raise InvalidDsn("the port of the DSN is not a number", fix=_FORM)
    return parts


def _port(address: str) -> str:
    return address.rpartition("]")[2].rpartition(":")[2] if ":" in address.rpartition("]")[2] else ""
