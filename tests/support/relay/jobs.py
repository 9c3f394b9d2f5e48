"""Jobs for tests."""

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime

from edge_schemas.wire.content import Content
from edge_schemas.wire.jobs import (
    AuxiliaryJob,
    AuxiliaryKind,
    AuxiliaryWork,
    CommandWork,
    Job,
    JobKind,
    JobTerms,
    OnLost,
    PayloadWork,
    TaskIdentity,
    TaskWork,
)


def make_job(queue: str = "default", *, team: str | None = None) -> Job:
    """A new job."""
    task = TaskIdentity(ti_id=str(uuid.uuid4()), dag_id="d", task_id="t", run_id="r", try_number=1)
    work = TaskWork(task=task, workload={}, core_executor="LocalExecutor")
    return Job(id=str(uuid.uuid4()), queue=queue, team=team, work=work, published_at=datetime.now(UTC))


def make_auxiliary_job(queue: str = "auxiliary_jobs", kind: AuxiliaryKind = AuxiliaryKind.CALLBACK) -> Job:
    """A new callback or connection test."""
    auxiliary = AuxiliaryJob(kind=kind, id=str(uuid.uuid4()))
    work = AuxiliaryWork(auxiliary=auxiliary, workload={}, core_executor="LocalExecutor")
    return Job(id=auxiliary.id, queue=queue, work=work, published_at=datetime.now(UTC))


def make_command(
    *argv: str,
    queue: str = "default",
    on_lost: OnLost = OnLost.FAIL,
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
    timeout_s: float | None = None,
) -> Job:
    """A new command, as a producer submits it."""
    work = CommandWork(argv=argv, env=dict(env or {}), cwd=cwd, timeout_s=timeout_s)
    terms = JobTerms(kind=JobKind.COMMAND, name=argv[0], producer="tests", on_lost=on_lost, max_attempts=3)
    return Job(id=str(uuid.uuid4()), queue=queue, work=work, terms=terms, published_at=datetime.now(UTC))


def make_payload_job(queue: str = "default") -> Job:
    """A new payload of a producer, which waits again up to three times."""
    terms = JobTerms(kind=JobKind.PAYLOAD, name="p", producer="shop", on_lost=OnLost.REQUEUE, max_attempts=3)
    work = PayloadWork(payload=Content.of_text("hello"))
    return Job(id=str(uuid.uuid4()), queue=queue, work=work, terms=terms, published_at=datetime.now(UTC))
