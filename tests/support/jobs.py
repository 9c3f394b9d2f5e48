"""Jobs for tests."""

import uuid
from datetime import UTC, datetime

from edge_schemas.wire.jobs import Errand, ErrandKind, ErrandWork, Job, TaskIdentity, TaskWork


def make_job(queue: str = "default", *, team: str | None = None) -> Job:
    """A job that nobody has seen yet."""
    task = TaskIdentity(ti_id=str(uuid.uuid4()), dag_id="d", task_id="t", run_id="r", try_number=1)
    work = TaskWork(task=task, workload={}, core_executor="LocalExecutor")
    return Job(id=str(uuid.uuid4()), queue=queue, team=team, work=work, published_at=datetime.now(UTC))


def make_errand(queue: str = "errands", kind: ErrandKind = ErrandKind.CALLBACK) -> Job:
    """A callback or a connection test that nobody has seen yet."""
    errand = Errand(kind=kind, id=str(uuid.uuid4()))
    work = ErrandWork(errand=errand, workload={}, core_executor="LocalExecutor")
    return Job(id=errand.id, queue=queue, work=work, published_at=datetime.now(UTC))
