"""Every error that this package raises on purpose, as one tree.

::

    PgSchedulerError                 .code, .what, .why, .fix
    |-- InvalidArgument              also ValueError: something that the caller gave
    |   |-- InvalidPayload           arguments that JSON cannot keep exactly
    |   |   |-- InvalidArguments     arguments that do not fit the task's typed parameters
    |   |   `-- PayloadNotDecoded    arguments or a result that a payload_codec has made, and none can read
    |   |-- InvalidSchedule          a rule that does not parse, never fires, or has no zone
    |   |-- JobExists                the job id is taken and the caller asked to be told
    |   |-- SimulationTooLarge       more ticks, or a longer time, than a simulation looks at
    |   |-- InvalidDsn               a connection string that cannot be used
    |   `-- IllegalTransition        a status that the job cannot have next
    |-- AppNotFound                  what was named to the worker holds no task
    |-- MissingExtra                 (in cli.extras) a command needs a package of an extra
    |-- NoPostgresBinaries           no PostgreSQL programs for the embedded server
    |-- EmbeddedPostgresFailed       the embedded server ended or never answered
    |-- LostClaim                    the job is no longer this attempt's
    |-- TransactionRefused           a job's second transaction
    |-- JobTimeout                   an attempt ran for longer than the job may; also TimeoutError
    |-- NoResult                     a job that was waited for has no result to give
    |   |-- JobFailed                it failed
    |   |-- JobCancelled             it was cancelled
    |   |-- JobExpired               it expired before it started
    |   |-- UnknownJob               there is no such job
    |   `-- ResultNotKept            it completed, and its result was not stored
    |-- ArgsFromNotAllowed           a job asks for an environment variable that its task may not be given
    |-- ArgsFromMissing              it asks for one that its worker does not have
    |-- MainLoopStalled              a worker's event loop has not turned for max_stall
    |-- CannotListen                 the address of a worker's probes and metrics is not to be had
    |-- DatabaseUnreachable          nobody answers there, or not to us          (.sqlstate)
    |   |-- DatabaseBusy             it has undone the statement: a lock, a time limit, no connection left
    |   |-- UntrustedServer          it does not prove who it is, or there is nothing to check that with
    |   |-- TransactionLost          the connection of a job's transaction was lost before its commit
    |   `-- StorageFull              its disk is full: it reads, and writes nothing
    |-- DatabaseNotReady             it answers, and waiting will not help       (.sqlstate)
    |   `-- SchemaMismatch           tables missing, or newer than this release reads
    |       `-- MigrationNeeded      `pgscheduler migrate` makes them what this release needs
    |-- OwnedByResource              the row belongs to a custom resource: edit that
    |-- TenantLimitExceeded          whoever runs the operator allows this tenant no more
    `-- ClockError                   (of testing) a test's clock cannot be set, or cannot go on
        |-- WorkerAlive              a worker lives by it, whose time would jump
        `-- TimeStandsStill          a job waits for something else than the clock

Invariant: a message holds what, why and fix, and never a password or a job's argument.
"""


class PgSchedulerError(Exception):
    """The root of the tree.

    Attributes:
        code: stable identifier ``PGS-0NN``, one for each class.
        what: one line, what went wrong.
        why: one line, the value and where it came from; empty when ``what`` says it all.
        fix: one line, what to do about it; empty when only the reader can know.
    """

    code = "PGS-000"

    def __init__(self, what: str, *, why: str = "", fix: str = "") -> None:
        super().__init__(". ".join(part for part in (what, why, fix) if part))
        self.what = what
        self.why = why
        self.fix = fix


class InvalidArgument(PgSchedulerError, ValueError):
    """Something that the caller gave cannot be used; nothing was written."""

    code = "PGS-001"


class InvalidPayload(InvalidArgument, TypeError):
    """Arguments of a job that JSON cannot keep exactly."""

    code = "PGS-002"


class PayloadNotDecoded(InvalidPayload):
    """Arguments or a result are stored as a ``payload_codec`` made them, and here is none that can read them."""

    code = "PGS-009"


class InvalidSchedule(InvalidArgument):
    """A rule that does not parse, never fires, or names a time zone that does not exist.

    Attributes:
        field: the part of the rule at fault, such as ``cron[0]`` or ``timeZone``.
    """

    code = "PGS-003"

    def __init__(self, what: str, *, field: str, why: str = "", fix: str = "") -> None:
        super().__init__(what, why=why, fix=fix)
        self.field = field


class JobExists(InvalidArgument):
    """The job id exists already and the caller asked to be told (``ConflictResolution.RAISE``)."""

    code = "PGS-004"


class SimulationTooLarge(InvalidArgument):
    """A simulation was asked for more ticks, or for a longer time, than it looks at.

    Attributes:
        limit: how many ticks, or days, it looks at.
    """

    code = "PGS-023"

    def __init__(self, what: str, *, limit: int, why: str = "", fix: str = "") -> None:
        super().__init__(what, why=why, fix=fix)
        self.limit = limit


class InvalidDsn(InvalidArgument):
    """A connection string that cannot be used; the message never repeats it."""

    code = "PGS-005"


class IllegalTransition(InvalidArgument):
    """The job's status does not lead to the wished one; nothing was written."""

    code = "PGS-008"


class AppNotFound(PgSchedulerError):
    """The worker was given a module or file that is not there, or that holds no task."""

    code = "PGS-006"


class NoPostgresBinaries(PgSchedulerError):
    """The embedded server found no PostgreSQL programs that run on this machine."""

    code = "PGS-010"


class EmbeddedPostgresFailed(PgSchedulerError):
    """The embedded server ended or never answered; the message ends with its own last words."""

    code = "PGS-011"


class DatabaseUnreachable(PgSchedulerError):
    """Nobody answers there, or not to us: what was sent may or may not have been done.

    Attributes:
        sqlstate: the five characters that the server gave as its reason; None when it gave none.
    """

    code = "PGS-012"

    def __init__(self, what: str, *, why: str = "", fix: str = "", sqlstate: str | None = None) -> None:
        super().__init__(what, why=why, fix=fix)
        self.sqlstate = sqlstate


class DatabaseBusy(DatabaseUnreachable):
    """The server answers and has undone the statement: it waited too long for a lock, or no connection is left.

    Nothing was written; the same call may succeed a moment later.
    """

    code = "PGS-020"


class StorageFull(DatabaseUnreachable):
    """The server's disk is full: it answers and writes nothing. Nothing was written."""

    code = "PGS-021"


class UntrustedServer(DatabaseUnreachable):
    """Whoever answers there does not prove to be the database server, or there is nothing to check that with.

    No password was sent. The files of certificates are read for each connection: the next one may succeed.
    """

    code = "PGS-018"


class DatabaseNotReady(PgSchedulerError):
    """The server answers, and waiting will not help: no such database, a right is missing, a pooler in the way.

    Attributes:
        sqlstate: the five characters that the server gave as its reason; None when it gave none.
    """

    code = "PGS-022"

    def __init__(self, what: str, *, why: str = "", fix: str = "", sqlstate: str | None = None) -> None:
        super().__init__(what, why=why, fix=fix)
        self.sqlstate = sqlstate


class SchemaMismatch(DatabaseNotReady):
    """The tables are missing, older than needed, or newer than this release reads."""

    code = "PGS-013"


class MigrationNeeded(SchemaMismatch):
    """The tables are missing or older than needed, and who asks is not to make them: ``pgscheduler migrate`` does."""

    code = "PGS-019"


class OwnedByResource(PgSchedulerError):
    """The row belongs to a custom resource, which is where it is edited."""

    code = "PGS-014"


class TenantLimitExceeded(PgSchedulerError):
    """Whoever runs the operator allows this tenant no more; nothing was written.

    Attributes:
        limit: its name: ``maxPending``, ``maxRate`` or ``minIntervalSeconds``.
    """

    code = "PGS-017"

    def __init__(self, what: str, *, limit: str, why: str = "", fix: str = "") -> None:
        super().__init__(what, why=why, fix=fix)
        self.limit = limit


class MainLoopStalled(PgSchedulerError):
    """A worker's event loop has not turned for ``max_stall``: it has stopped beating, and others take its jobs."""

    code = "PGS-015"


class CannotListen(PgSchedulerError):
    """The address for probes and metrics is taken, or not this machine's."""

    code = "PGS-016"


class LostClaim(PgSchedulerError):
    """The job is no longer this attempt's: it was cancelled, replaced, or given to another worker meanwhile."""

    code = "PGS-060"


class TransactionRefused(PgSchedulerError):
    """A job completes in one transaction: a second one, or one inside another, has nothing to complete."""

    code = "PGS-061"


class TransactionLost(DatabaseUnreachable):
    """The connection of ``ctx.transaction()`` was lost before its commit; nothing of the block was kept."""

    code = "PGS-062"


class JobTimeout(PgSchedulerError, TimeoutError):
    """An attempt ran for longer than the job's timeout."""

    code = "PGS-063"


class InvalidArguments(InvalidPayload):
    """Arguments that do not fit the dataclasses or models that the task's parameters are annotated with."""

    code = "PGS-064"


class NoResult(PgSchedulerError):
    """A job that was waited for has no result to give.

    Attributes:
        job_id: the job.
    """

    code = "PGS-065"

    def __init__(self, what: str, *, job_id: str, why: str = "", fix: str = "") -> None:
        super().__init__(what, why=why, fix=fix)
        self.job_id = job_id


class JobFailed(NoResult):
    """The job failed.

    Attributes:
        job_id: the job.
        error_type: class name of what its last attempt raised; empty when no attempt recorded it.
        error_message: its text, which is not part of this error's own text.
        error_traceback: its traceback.
        attempt: number of that attempt; 0 when no attempt recorded it.
    """

    code = "PGS-066"

    def __init__(
        self, what: str, *, job_id: str, error_type: str, error_message: str, error_traceback: str, attempt: int
    ) -> None:
        super().__init__(what, job_id=job_id, fix="see error_message and error_traceback, or scheduler_attempts")
        self.error_type = error_type
        self.error_message = error_message
        self.error_traceback = error_traceback
        self.attempt = attempt


class JobCancelled(NoResult):
    """The job was cancelled."""

    code = "PGS-067"


class JobExpired(NoResult):
    """The job expired before it was started."""

    code = "PGS-068"


class UnknownJob(NoResult):
    """There is no job of this id, or its row has been deleted by the retention."""

    code = "PGS-069"


class ResultNotKept(NoResult):
    """The job completed and its result is not stored: nobody asked for it, or JSON could not keep it."""

    code = "PGS-070"


class ArgsFromNotAllowed(PgSchedulerError):
    """A job asks for an environment variable that its task may not be given; another attempt would end alike."""

    code = "PGS-072"


class ArgsFromMissing(PgSchedulerError):
    """A job asks for an environment variable that is not set where it runs."""

    code = "PGS-073"


def code_of(error_type: str) -> str:
    """The code of an error by its type's name, as rows keep it; that of ``JobFailed`` for what is not in this tree."""
    return _codes(PgSchedulerError).get(error_type, JobFailed.code)


def _codes(error: type[PgSchedulerError]) -> dict[str, str]:
    codes = {error.__name__: error.code}
    for kind in error.__subclasses__():
        codes |= _codes(kind)
    return codes


class ClockError(PgSchedulerError):
    """A clock of ``pg_scheduler.testing`` cannot be set, or cannot go on."""

    code = "PGS-080"


class WorkerAlive(ClockError):
    """A worker lives in the database whose clock is to be set: its time would jump, and its leases with it."""

    code = "PGS-081"


class TimeStandsStill(ClockError):
    """A job neither ends nor sleeps on the test's clock, which therefore cannot be moved on."""

    code = "PGS-082"
