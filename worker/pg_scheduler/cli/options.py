"""Options that several commands share.

Invariant: each setting has one name as an option and one as a variable, and no help text shows a connection string.
"""

from __future__ import annotations

import math
import re
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from pg_scheduler.cli.output import progress
from pg_scheduler.errors import DatabaseUnreachable, InvalidDsn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pg_scheduler._store.tls import Dsn

DSN_VARIABLE = "PGSCHEDULER_DSN"
DSN_FILE_VARIABLE = "PGSCHEDULER_DSN_FILE"
ALLOW_INSECURE_VARIABLE = "PGSCHEDULER_ALLOW_INSECURE"
PORT_MAX = 65_535

_ADDRESS = re.compile(r"(?:\[(?P<ipv6>[0-9A-Fa-f:.]+)\]|(?P<host>[^\s:\[\]/@]+)):(?P<port>[0-9]{1,5})")


class Seconds(click.FloatRange):
    """A finite number of seconds in a range: click itself lets NaN through every range."""

    name = "seconds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            is_number = math.isfinite(float(value))
        except ValueError:
            is_number = False
        if not is_number:
            self.fail(f"{value!r} is not a number of seconds", param, ctx)
        return super().convert(value, param, ctx)


def http_address(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[str, int] | None:
    """``HOST:PORT`` as a pair; an IPv6 host stands in brackets, as in URLs."""
    del context, parameter
    if value is None:
        return None
    given = _ADDRESS.fullmatch(value)
    if given is None or int(given["port"]) > PORT_MAX:
        raise click.BadParameter(f"{value!r} is no HOST:PORT, such as 0.0.0.0:8080 or [::]:8080")
    return given["ipv6"] or given["host"], int(given["port"])


def _without_blanks(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """The URL itself, with a word about a line break that came along, since other programs may not take it so."""
    if value is None or value == value.strip() or not value.strip():
        return value
    by_variable = context.get_parameter_source(parameter.name or "") is ParameterSource.ENVIRONMENT
    progress(f"warning: {f'${DSN_VARIABLE}' if by_variable else '--dsn'} has white space around it, which is left out")
    return value.strip()


def _allow_insecure_option(function: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--allow-insecure",
        is_flag=True,
        envvar=ALLOW_INSECURE_VARIABLE,
        show_envvar=True,
        help="Connect over a network without TLS, or without a proof of who answers, if the URL says no better.",
    )(function)


def dsn_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """``--dsn``, required, and ``--allow-insecure``: passed on as ``dsn`` and ``allow_insecure``."""
    return click.option(
        "--dsn",
        required=True,
        envvar=DSN_VARIABLE,
        show_envvar=True,
        callback=_without_blanks,
        metavar="URL",
        help="Database, as postgresql://user:password@host:5432/database. Other users of this machine may see options, "
        "so prefer the variable.",
    )(_allow_insecure_option(function))


def dsn_or_file_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """``--dsn``, ``--dsn-file`` and ``--allow-insecure``, of which ``dsn_given`` makes what to connect to."""
    for option in (
        _allow_insecure_option,
        click.option(
            "--dsn-file",
            type=click.Path(dir_okay=False, path_type=Path),
            envvar=DSN_FILE_VARIABLE,
            show_envvar=True,
            metavar="FILE",
            help="A file with that URL, instead; read again for each connection, so that a password may change.",
        ),
        click.option(
            "--dsn",
            envvar=DSN_VARIABLE,
            show_envvar=True,
            callback=_without_blanks,
            metavar="URL",
            help="Database, as postgresql://user:password@host:5432/database. Other users of this machine may see "
            "options, so prefer the variable.",
        ),
    ):
        function = option(function)
    return function


def dsn_given(context: click.Context, dsn: str | None, dsn_file: Path | None) -> Dsn:
    """The string, or what reads it from its file each time."""
    if dsn is not None and dsn_file is not None:
        raise click.UsageError("give --dsn or --dsn-file, not both")
    if dsn_file is not None:
        return partial(_read_dsn, dsn_file)
    if dsn is None:
        raise click.MissingParameter(param=next(p for p in context.command.params if p.name == "dsn"))
    return dsn


def _read_dsn(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidDsn(
            "the file of the DSN cannot be read", why=type(error).__name__, fix="mount the Secret there"
        ) from None


def log_format_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """``--log-format text|json``, passed on as ``log_format``."""
    return click.option(
        "--log-format",
        type=click.Choice(["text", "json"]),
        default="text",
        show_default=True,
        envvar="PGSCHEDULER_LOG_FORMAT",
        show_envvar=True,
        help="Form of the log on standard error.",
    )(function)


@contextmanager
def dsn_in_use() -> Iterator[None]:
    """Errors about the connection string that leave this block say where it came from."""
    try:
        yield
    except (InvalidDsn, DatabaseUnreachable) as error:
        error.add_note(f"from: {_source_of_dsn(click.get_current_context())}")
        raise


def _source_of_dsn(context: click.Context) -> str:
    if context.params.get("dsn_file") is not None:
        by_variable = context.get_parameter_source("dsn_file") is ParameterSource.ENVIRONMENT
        return f"${DSN_FILE_VARIABLE}" if by_variable else "--dsn-file"
    return f"${DSN_VARIABLE}" if context.get_parameter_source("dsn") is ParameterSource.ENVIRONMENT else "--dsn"
