"""Jobs that a real Task SDK runs."""

import uuid
from datetime import UTC, datetime
from typing import Any

from edge_schemas.wire.jobs import AuxiliaryJob, AuxiliaryKind, AuxiliaryWork, Job, TaskIdentity, TaskWork
from edge_schemas.wire.offline import OfflinePolicy

DEFAULT_OFFLINE = OfflinePolicy()


def sdk_job(
    task_id: str,
    *,
    bundle: str = "dags",
    dag_id: str = "d",
    dag_file: str | None = None,
    executor: str = "LocalExecutor",
    queue: str = "default",
    offline: OfflinePolicy = DEFAULT_OFFLINE,
) -> Job:
    """A job for a task of a DAG; the file has the DAG's name by default."""
    ti_id = str(uuid.uuid4())
    identity: dict[str, Any] = {"task_id": task_id, "dag_id": dag_id, "run_id": "r1", "try_number": 1, "map_index": -1}
    ti = {
        **identity,
        "id": ti_id,
        "dag_version_id": str(uuid.uuid4()),
        "hostname": "",
        "queue": queue,
        "pool_slots": 1,
        "priority_weight": 1,
        "context_carrier": {},
    }
    workload = {
        "ti": ti,
        "dag_rel_path": dag_file or f"{dag_id}.py",
        "bundle_info": {"name": bundle, "version": None},
        "log_path": "dag_id=d/attempt=1.log",
        "sentry_integration": "",
        "type": "ExecuteTask",
    }
    work = TaskWork(task=TaskIdentity(ti_id=ti_id, **identity), workload=workload, core_executor=executor)
    return _job(work, queue, offline)


def callback_job(path: str, kwargs: dict[str, Any], *, offline: OfflinePolicy = DEFAULT_OFFLINE) -> Job:
    """A job for a callback, as a deadline makes one."""
    auxiliary = AuxiliaryJob(kind=AuxiliaryKind.CALLBACK, id=str(uuid.uuid4()))
    workload = {
        "callback": {"id": auxiliary.id, "fetch_method": "import_path", "data": {"path": path, "kwargs": kwargs}},
        "dag_rel_path": "d.py",
        "bundle_info": {"name": "dags", "version": None},
        "log_path": f"executor_callbacks/d/r1/{auxiliary.id}",
        "type": "ExecuteCallback",
    }
    return _job(
        AuxiliaryWork(auxiliary=auxiliary, workload=workload, core_executor="LocalExecutor"), "default", offline
    )


def connection_test_job(connection_id: str, *, timeout_s: int = 20) -> Job:
    """A job for a connection test that a user asked for."""
    auxiliary = AuxiliaryJob(kind=AuxiliaryKind.CONNECTION_TEST, id=str(uuid.uuid4()))
    workload = {
        "connection_test_id": auxiliary.id,
        "connection_id": connection_id,
        "timeout": timeout_s,
        "queue": "default",
        "type": "TestConnection",
    }
    work = AuxiliaryWork(auxiliary=auxiliary, workload=workload, core_executor="LocalExecutor")
    return _job(work, "default", DEFAULT_OFFLINE)


def _job(work: TaskWork | AuxiliaryWork, queue: str, offline: OfflinePolicy) -> Job:
    return Job(id=str(uuid.uuid4()), queue=queue, work=work, offline=offline, published_at=datetime.now(tz=UTC))


def ti_of(job: Job) -> str:
    """The task instance that a job runs."""
    assert job.task is not None
    return job.task.ti_id
