"""The group of the plugin's commands.

Invariant: importing this module imports click and nothing heavier; each command imports what it runs.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import click

from pg_scheduler.cli.group import ReportingGroup
from pg_scheduler.cli.reporting import unreachable
from pg_scheduler_operator.errors import KubernetesNotConfigured, KubernetesUnreachable
from pg_scheduler_operator.plugin.reading import explain, next_ticks, simulate, status
from pg_scheduler_operator.plugin.writing import backfill, rerun, resume, suspend, trigger


class PluginGroup(ReportingGroup):
    """Lists commands as they are given; a cluster that does not answer is an exit code of its own."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except click.ClickException as error:
            cause = error.__cause__
            if isinstance(cause, KubernetesUnreachable | KubernetesNotConfigured):
                raise unreachable(cause) from cause
            raise


@click.group(
    cls=PluginGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 done, 1 the answer is no, 2 wrong usage, 3 cannot reach Kubernetes, 130 interrupted.",
)
@click.version_option(version("pgscheduler"), prog_name="kubectl-pgscheduler")
def plugin() -> None:
    """PeriodicJobs, ScheduledJobs and WorkerPools: see how they are, and why something does not run; run things again.

    It calls the kubectl on your PATH and can do what you can do. OBJECT is written as for kubectl: pjob/nightly-report,
    or pjob nightly-report.
    """


for _command in (status, next_ticks, simulate, explain, trigger, backfill, rerun, suspend, resume):
    plugin.add_command(_command)
