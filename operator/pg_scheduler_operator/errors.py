"""Every error that the operator raises on purpose; the tree continues ``pg_scheduler.errors``.

::

    PgSchedulerError
    |-- InvalidSpec               a custom resource asks for something that cannot be done
    |-- InvalidManifest           a file in a folder of manifests that cannot be read
    |-- UnsupportedSchema         a model that the CRD generator has no rule for
    |-- LeadershipLost            another operator serves, or soon may
    |-- NameTaken                 the cluster name is another cluster's
    |-- SweepHeld                 suspiciously many objects are gone
    |-- KubectlNotFound           the plugin has no kubectl to call
    |-- KubernetesNotConfigured   neither a service account nor a kubeconfig
    `-- KubernetesError           the API server did not do what was asked
        |-- KubernetesUnreachable   nobody answers, or not in time
        |-- ObjectGone              the object does not exist (any more)
        |-- ObjectChanged           somebody else wrote it meanwhile
        |-- RightMissing            who asks may not do it
        `-- WaitTooShort            what was waited for has not come in time

Invariant: a message holds what, why and fix, and never a job's argument, a password or a token.
"""

from pg_scheduler.errors import InvalidArgument, PgSchedulerError


class InvalidSpec(InvalidArgument):
    """A custom resource asks for something that cannot be done.

    Attributes:
        field: path of the field at fault, such as ``spec.schedule.cron[0]``.
    """

    code = "PGS-040"

    def __init__(self, what: str, *, field: str, why: str = "", fix: str = "") -> None:
        super().__init__(what, why=why, fix=fix)
        self.field = field


class InvalidManifest(InvalidArgument):
    """A file in a folder of manifests that cannot be read; the others are not affected."""

    code = "PGS-041"


class UnsupportedSchema(PgSchedulerError):
    """A model holds something that the CRD generator has no rule for: better no CRD than one that means less."""

    code = "PGS-042"


class KubernetesNotConfigured(PgSchedulerError):
    """Neither a service account nor a kubeconfig says where the API server is."""

    code = "PGS-043"


class KubernetesError(PgSchedulerError):
    """The API server did not do what was asked.

    Attributes:
        status: the HTTP status, 0 when there was no answer.
        retry_after: seconds that the server asked to wait, 0 when it did not.
    """

    code = "PGS-044"

    def __init__(self, what: str, *, why: str = "", fix: str = "", status: int = 0, retry_after: float = 0) -> None:
        super().__init__(what, why=why, fix=fix)
        self.status = status
        self.retry_after = retry_after


class KubernetesUnreachable(KubernetesError):
    """Nobody answers there, or not in time."""

    code = "PGS-045"


class ObjectGone(KubernetesError):
    """The object does not exist, or no longer."""

    code = "PGS-046"


class ObjectChanged(KubernetesError):
    """Somebody else wrote the object between our read and our write; read again."""

    code = "PGS-047"


class LeadershipLost(PgSchedulerError):
    """Another operator holds the Lease, or soon may: this process must not serve any more."""

    code = "PGS-048"


class NameTaken(InvalidArgument):
    """The operator of another cluster serves the rows of this cluster name, or may do so."""

    code = "PGS-049"


class SweepHeld(PgSchedulerError):
    """Suspiciously many objects are gone: their rows stay until people have agreed."""

    code = "PGS-050"


class KubectlNotFound(PgSchedulerError):
    """The plugin calls ``kubectl``, and there is none on the PATH."""

    code = "PGS-056"


class RightMissing(KubernetesError):
    """Who asks may not do it: a rule of RBAC is missing."""

    code = "PGS-057"


class WaitTooShort(KubernetesError):
    """What was waited for has not come in time; it may still come."""

    code = "PGS-058"


class TrialFailed(PgSchedulerError):
    """The job by which ``helm test`` looks whether all works has failed."""

    code = "PGS-059"
