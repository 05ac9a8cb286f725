"""The commands ``pgscheduler chart``.

Invariant: importing this module imports click and nothing heavier; each command imports what it runs.
"""

# ruff: noqa: PLC0415 (a command imports what it runs when it runs)

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pg_scheduler.cli.extras import needs_extra
from pg_scheduler.cli.output import progress
from pg_scheduler.cli.reporting import unreachable

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from pg_scheduler_operator.gateway.kube import KubeApi

NAMESPACE = click.option("--namespace", required=True, help="Namespace of the Helm release.")


@click.group(short_help="What the Helm chart's pods run.")
def chart() -> None:
    """What the pods of the Helm chart run beside operators and workers. People need none of it."""


@chart.command("apply-crds")
def apply_crds() -> None:
    """Bring the cluster's custom resource definitions to this version; a definition that is not there is an error."""
    with needs_extra("operator"):
        from pg_scheduler_operator.chart.crds import apply_all

    async def work(api: KubeApi) -> str:
        return f"applied: {', '.join([name async for name in apply_all(api)])}"

    _run(work)


@chart.command()
@NAMESPACE
@click.option("--lease", required=True, help="Name of the operator's Lease there.")
@click.option("--watched", multiple=True, help="A namespace that the operator serves; none means all. Repeatable.")
def release(namespace: str, lease: str, watched: tuple[str, ...]) -> None:
    """Take the operator's place, and its finalizers off all objects, so that they can be deleted without it.

    Objects and rows stay. The Lease is kept until it runs out: an operator that is still there does nothing for 15
    seconds more.
    """
    with needs_extra("operator"):
        from pg_scheduler_operator.chart.release import release_objects

    async def work(api: KubeApi) -> str:
        return f"released: {await release_objects(api, namespace=namespace, lease=lease, watched=watched)} objects"

    _run(work)


@chart.command()
@NAMESPACE
@click.option("--name", required=True, help="Name of the ScheduledJob.")
@click.option("--timeout", type=click.FloatRange(min=1), default=120, show_default=True, help="Seconds to wait.")
def test(namespace: str, name: str, timeout: float) -> None:
    """Let a worker run pgscheduler.ping by a ScheduledJob; exit code 1 says that it did not, and how far it came."""
    with needs_extra("operator"):
        from pg_scheduler_operator.chart.trial import run_trial

    _run(lambda api: run_trial(api, namespace=namespace, name=name, timeout_seconds=timeout))


def _run(work: Callable[[KubeApi], Coroutine[None, None, str]]) -> None:
    """Let it speak to the API server, and say what came of it."""
    with needs_extra("operator"):
        from pg_scheduler_operator.errors import KubernetesNotConfigured, KubernetesUnreachable
        from pg_scheduler_operator.gateway.kube import connect

    async def connected() -> str:
        async with connect() as api:
            return await work(api)

    try:
        progress(asyncio.run(connected()))
    except (KubernetesNotConfigured, KubernetesUnreachable) as error:
        raise unreachable(error) from error


@chart.command()
@click.option("--data", type=click.Path(path_type=Path), required=True, help="Folder of the data.")
@click.option(
    "--password-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    required=True,
    help="File that holds the password of the user postgres.",
)
@click.option("--port", type=click.IntRange(1, 65_535), default=5432, show_default=True, help="Port, on all addresses.")
def database(data: Path, password_file: Path, port: int) -> None:
    """Run a PostgreSQL to try things out, until told to stop. No backups, no encryption of connections."""
    with needs_extra("demo"):
        from pg_scheduler.cli import logs
        from pg_scheduler_operator.chart.database import serve
    logs.configure("json")
    asyncio.run(serve(data, password_file=password_file, port=port))
