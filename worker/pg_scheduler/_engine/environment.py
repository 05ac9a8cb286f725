"""Arguments that a job has from the environment of the worker that runs it.

Invariant: a value is given to the function and to nobody else: it is neither stored nor logged, and no error holds it.
A job gets only what the code or the environment of its worker allows, and never what belongs to this package or to
PostgreSQL: its own database would be the first thing that a job asks for.
"""

from collections.abc import Collection, Mapping

from pg_scheduler.errors import ArgsFromMissing, ArgsFromNotAllowed
from pg_scheduler.tasks import is_own_variable

ALLOW_VARIABLE = "PGSCHEDULER_ARGS_FROM_ALLOW"


class Environment:
    """The variables that this worker may give to jobs."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        """Keep ``variables``, one of which may name those that every task may be given, parted by commas."""
        self._variables = variables
        self._for_all = frozenset(name.strip() for name in variables.get(ALLOW_VARIABLE, "").split(","))

    def values(self, names: Mapping[str, str], for_task: Collection[str]) -> dict[str, str]:
        """The value of each keyword; ``for_task`` are the variables that the task itself may be given.

        Raises:
            ArgsFromNotAllowed: the task may not be given one of them.
            ArgsFromMissing: one is not set.
        """
        for name in names.values():
            if is_own_variable(name) or (name not in for_task and name not in self._for_all):
                raise ArgsFromNotAllowed(
                    f"a task of this worker may not be given the environment variable {name[:128]!r}",
                    fix=_fix(name),
                )
        return {keyword: self._value(name) for keyword, name in names.items()}

    def _value(self, name: str) -> str:
        value = self._variables.get(name)
        if value is None:
            raise ArgsFromMissing(
                f"the environment variable {name[:128]!r} is not set in this worker",
                fix="set it, from a Secret perhaps",
            )
        return value


def _fix(name: str) -> str:
    if is_own_variable(name):
        return "give it another name: those that begin with PG are never given"
    return f"allow it with @task(args_from=[…]), or name it in ${ALLOW_VARIABLE}"
