"""Jobs without Airflow, as the producers' API creates them: only the record."""

import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from edge_broker.jetstream.stream_info import purge, subjects_with_messages
from edge_broker.records import RecordStore
from edge_broker.subjects import JOBS, job_subject
from edge_schemas.life.model import JobRecord, new_record
from edge_schemas.wire.content import Content
from edge_schemas.wire.jobs import CommandWork, Job, JobKind, JobTerms, OnLost, PayloadWork
from edge_schemas.wire.offline import OfflinePolicy
from support.nats.server import eventually
from support.relay.edge import Edge


def payload_job(queue: str = "default", *, tolerance_s: float | None = None, **terms: Any) -> Job:
    """A payload that waits again when its consumer is lost, three times at most, unless `terms` say otherwise."""
    asked = {"name": "payload", "producer": "tests", "on_lost": OnLost.REQUEUE, "max_attempts": 3, **terms}
    return Job(
        id=str(uuid.uuid4()),
        queue=queue,
        work=PayloadWork(payload=Content.of_text("a payload")),
        terms=JobTerms(kind=JobKind.PAYLOAD, **asked),
        offline=OfflinePolicy() if tolerance_s is None else OfflinePolicy(tolerance_s=tolerance_s),
        published_at=datetime.now(UTC),
    )


def command_job(queue: str = "default", *, tolerance_s: float | None = None, **terms: Any) -> Job:
    """A command that has failed when its worker is lost, unless `terms` say otherwise."""
    asked = {"name": "true", "producer": "tests", **terms}
    job = payload_job(queue, tolerance_s=tolerance_s)
    work, terms_ = CommandWork(argv=("true",)), JobTerms(kind=JobKind.COMMAND, **asked)
    return job.model_copy(update={"work": work, "terms": terms_})


async def submit(edge: Edge, job: Job, *, delay_s: float | None = None) -> Job:
    """Create the record, and nothing else."""
    not_before = None if delay_s is None else job.published_at + timedelta(seconds=delay_s)
    await edge.records.create(new_record(job, not_before=not_before))
    return job


async def with_message(edge: Edge) -> set[str]:
    """The jobs that have a message."""
    subjects = await subjects_with_messages(edge.broker, JOBS, "edge.jobs.>")
    return {subject.rpartition(".")[2] for subject in subjects}


async def has_message(edge: Edge, *jobs: Job) -> None:
    """Wait until exactly these jobs have a message."""
    wanted = {job.id for job in jobs}

    async def is_so() -> bool:
        return await with_message(edge) == wanted

    await eventually(is_so, what=f"{len(wanted)} jobs have a message")


async def consume(edge: Edge, job: Job) -> None:
    """As the acknowledgement of a start that a test writes without a worker."""
    await purge(edge.broker, JOBS, job_subject(job.team, job.queue, job.id))


async def record_of(records: RecordStore, job: Job) -> JobRecord:
    """As it is now."""
    record = await records.get(job.id)
    assert record is not None
    return record


async def reaches(
    records: RecordStore, job: Job, is_so: Callable[[JobRecord], bool], *, timeout_s: float = 10.0
) -> JobRecord:
    """The record once something is true of it."""

    async def found() -> JobRecord | None:
        record = await record_of(records, job)
        return record if is_so(record) else None

    record = await eventually(found, timeout_s=timeout_s, what="the record changes")
    assert record is not None
    return record
