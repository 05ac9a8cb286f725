"""Rows of ``scheduler_results`` beside the ends of their jobs."""

from dataclasses import dataclass

from pg_scheduler._domain.outcomes import ErrorRecord
from pg_scheduler._store.database import Database
from pg_scheduler._store.queries import QUERIES
from pg_scheduler.job_status import JobStatus

RESULTS_CHANNEL = "scheduler_results"


@dataclass(frozen=True, slots=True, kw_only=True)
class EndOfJob:
    """Where a job stands.

    Attributes:
        status: its status.
        result: what it returned, as JSON text; None where nothing is stored.
        refused: why its result could not be stored.
        error: the record of its last attempt, if that failed.
        attempt: the number of that attempt.
        message: what its row says of its end.
    """

    status: JobStatus
    result: str | None
    refused: str | None
    error: ErrorRecord | None
    attempt: int
    message: str


class ResultStore:
    """Reads them."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def end_of(self, job_id: str) -> EndOfJob | None:
        """Where the job stands; None when there is no such row."""
        row = await self._db.fetchrow(QUERIES["result_of"], job_id)
        if row is None:
            return None
        known = row["error_type"] is not None
        return EndOfJob(
            status=JobStatus(row["status"]),
            result=row["result"],
            refused=row["refused"],
            error=ErrorRecord(row["error_type"], row["message"], row["traceback"]) if known else None,
            attempt=row["attempt"] or 0,
            message=row["error_message"] or "",
        )
