"""Submitted jobs, as the producers' API creates them: only the record. And their messages, which relays store."""

from collections.abc import Callable
from datetime import timedelta

from edge_broker.jetstream.stream_info import purge, subjects_with_messages
from edge_broker.records import RecordStore
from edge_broker.subjects import JOBS, job_subject
from edge_schemas.life.model import JobRecord, new_record
from edge_schemas.wire.jobs import Job
from support.nats.server import eventually
from support.relay.edge import Edge


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
    await purge(edge.broker, JOBS, job_subject(job.team, job.queue, job.kind, job.id))


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
