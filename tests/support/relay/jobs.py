"""Jobs for tests."""

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

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
from edge_schemas.wire.offline import OfflinePolicy


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
