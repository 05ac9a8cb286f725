"""Arguments and options of the plugin's commands.

Invariant: importing this module imports click and nothing heavier. The options of kubectl have kubectl's names.
"""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable

    Command = Callable[..., Any]


def cluster_options(function: Command) -> Command:
    """``--namespace``, ``--context`` and ``--kubeconfig``, passed on as the arguments ``flags`` for kubectl."""

    @wraps(function)
    def with_flags(*arguments: Any, **options: Any) -> Any:
        given = {name: options.pop(name) for name in ("namespace", "context", "kubeconfig")}
        flags = tuple(f"--{name}={value}" for name, value in given.items() if value is not None)
        return function(*arguments, flags=flags, **options)

    for option in (
        click.option("--kubeconfig", metavar="FILE", help="As of kubectl."),
        click.option("--context", metavar="NAME", help="As of kubectl."),
        click.option("-n", "--namespace", metavar="NAME", help="As of kubectl; that of the context if not given."),
    ):
        option(with_flags)
    return with_flags


def everywhere_option(function: Command) -> Command:
    """``-A``, passed on as ``everywhere``."""
    return click.option("-A", "--all-namespaces", "everywhere", is_flag=True, help="All namespaces.")(function)


def object_argument(function: Command) -> Command:
    """``OBJECT``, one word or two, passed on as ``words``."""
    return click.argument("words", nargs=-1, required=True, metavar="OBJECT")(function)


def dry_run_option(function: Command) -> Command:
    """``--dry-run``."""
    return click.option("--dry-run", is_flag=True, help="Let the API server check it, and change nothing.")(function)


def wait_options(function: Command) -> Command:
    """``--wait`` and ``--timeout``, passed on as ``wait`` and ``timeout_seconds``."""
    timeout = click.option(
        "--timeout",
        "timeout_seconds",
        type=click.FloatRange(0, min_open=True),
        default=300,
        show_default=True,
        metavar="SECONDS",
        help="How long --wait waits.",
    )
    wait = click.option("--wait", is_flag=True, help="Return when it has ended; exit 1 unless it is Complete.")
    return wait(timeout(function))
