"""The status of a submitted job, from its record."""

from edge_schemas.life.model import JobRecord
from edge_schemas.producers.submissions import JobStatus


def job_status(record: JobRecord, *, site: str | None = None, result: bool = True) -> JobStatus | None:
    """What a producer sees of a job; None for a job of Airflow.

    Args:
        record: Of the job.
        site: Of its worker.
        result: With the result, which may have 256 KiB.
    """
    terms, holder, outcome = record.terms, record.holder, record.outcome
    if terms is None:
        return None
    if outcome is not None and not result:
        outcome = outcome.model_copy(update={"result": None})
    return JobStatus(
        job=record.id,
        queue=record.queue,
        kind=terms.kind,
        name=terms.name,
        producer=terms.producer,
        state=record.state,
        attempt=record.attempt,
        max_attempts=terms.max_attempts,
        on_lost=terms.on_lost,
        priority=terms.priority,
        parked=record.parked,
        group=terms.group,
        labels=terms.labels,
        submitted_at=record.created_at,
        not_before=record.not_before,
        expires_at=terms.expires_at,
        worker=None if holder is None else holder.worker,
        site=None if holder is None else site,
        started_at=None if holder is None else holder.started_at,
        outcome=outcome,
    )
