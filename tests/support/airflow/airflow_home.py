"""A real Airflow database in the test run's AIRFLOW_HOME, and the scheduler's own code on top of it.

Airflow is imported when a test asks for it, never at collection: that costs seconds.
"""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

BUNDLE = "dags-folder"


def create_tables() -> None:
    """Make the tables, once per test run."""
    from airflow import settings
    from airflow.models.base import Base
    from airflow.utils.db import synchronize_log_template
    from airflow.utils.session import create_session

    import_models()
    Base.metadata.create_all(settings.engine)
    with create_session(scoped=False) as session:
        synchronize_log_template(session=session)


def import_models() -> None:
    """Register all tables."""
    from airflow import models

    load: Any = models.import_all_models
    load()


@contextmanager
def dag_run(
    tasks: int, *, queue: str = "default", executor: str | None = None, in_a_row: bool = False, **task_options: Any
) -> Iterator[Any]:
    """A running DAG run with tasks `t0`, `t1`, …, all scheduled; removed at the end."""
    from airflow.models.dagbundle import DagBundleModel
    from airflow.models.pool import Pool
    from airflow.models.serialized_dag import SerializedDagModel
    from airflow.providers.standard.operators.empty import EmptyOperator
    from airflow.sdk import DAG
    from airflow.serialization.definitions.dag import SerializedDAG
    from airflow.serialization.serialized_objects import LazyDeserializedDAG
    from airflow.utils.session import create_session
    from airflow.utils.state import DagRunState, TaskInstanceState
    from airflow.utils.types import DagRunTriggeredByType, DagRunType

    with DAG(f"d-{uuid.uuid4().hex[:8]}", schedule=None, max_active_tasks=10_000, is_paused_upon_creation=False) as dag:
        made: list[Any] = []
        for number in range(tasks):
            task: Any = EmptyOperator(
                task_id=f"t{number}",
                queue=queue,
                executor=executor,
                on_success_callback=_nothing,
                pool="wide",
                **task_options,
            )
            if in_a_row and made:
                task.set_upstream(made[-1])
            made.append(task)
    lazy = LazyDeserializedDAG.from_dag(dag)
    with create_session(scoped=False) as session:
        session.merge(DagBundleModel(name=BUNDLE))
        Pool.create_or_update_pool("wide", slots=100_000, description="", include_deferred=False, session=session)
        session.flush()
        SerializedDAG.bulk_write_to_db(BUNDLE, None, [lazy], session=session)
        SerializedDagModel.write_dag(lazy, bundle_name=BUNDLE, session=session)
        session.commit()
        stored = SerializedDagModel.get(dag.dag_id, session=session)
        assert stored is not None
        run = stored.dag.create_dagrun(
            run_id="r",
            run_after=_now(),
            run_type=DagRunType.MANUAL,
            triggered_by=DagRunTriggeredByType.TEST,
            state=DagRunState.RUNNING,
            session=session,
        )
        for ti in run.task_instances:
            ti.state, ti.try_number = TaskInstanceState.SCHEDULED, 1
    try:
        yield dag
    finally:
        _remove(dag.dag_id)


def _nothing(context: object) -> None:
    """A callback keeps Airflow from skipping an empty task altogether."""


def _now() -> Any:
    from airflow._shared.timezones import timezone

    return timezone.utcnow()


def _remove(dag_id: str) -> None:
    from airflow.models.dag import DagModel
    from airflow.models.dag_version import DagVersion
    from airflow.models.dagrun import DagRun
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session
    from sqlalchemy import delete

    with create_session(scoped=False) as session:
        for model in (TaskInstance, DagRun, DagVersion, DagModel):
            session.execute(delete(model).where(model.dag_id == dag_id))


class Scheduler:
    """Airflow's scheduler, one step at a time, with these executors; each instance is its own scheduler."""

    def __init__(self, *executors: Any) -> None:
        from airflow.executors.executor_utils import ExecutorName
        from airflow.jobs.job import Job
        from airflow.jobs.scheduler_job_runner import SchedulerJobRunner
        from airflow.utils.session import create_session

        for executor in executors:
            if executor.name is None:
                executor.name = ExecutorName(f"{type(executor).__module__}.{type(executor).__name__}")
        new_job: Any = Job
        self.job = new_job()
        self.runner = SchedulerJobRunner(job=self.job, executors=list(executors))
        with create_session(scoped=False) as session:
            self.job.state = "running"
            self.job.latest_heartbeat = _now()
            session.add(self.job)
            session.commit()
            session.refresh(self.job)
            session.expunge(self.job)
        for executor in executors:
            executor.job_id = self.job.id

    def queue(self) -> int:
        """The critical section: scheduled tasks become queued and go to their executor."""
        from airflow.utils.session import create_session

        with create_session() as session:
            return self.runner._critical_section_enqueue_task_instances(session=session)

    def beat(self) -> None:
        """The executors' turn, and what follows from their events."""
        from airflow.utils.session import create_session

        for executor in self.runner.executors:
            executor.heartbeat()
        with create_session() as session:
            for executor in self.runner.executors:
                self.runner._process_executor_events(executor=executor, session=session)

    def die(self) -> None:
        """As a scheduler that was killed some time ago."""
        from airflow.jobs.job import Job
        from airflow.utils.session import create_session

        with create_session(scoped=False) as session:
            job = session.get(Job, self.job.id)
            assert job is not None
            job.state = "failed"

    def adopt(self) -> int:
        """Look for tasks of dead schedulers; returns how many were reset."""
        return self.runner.adopt_or_reset_orphaned_tasks()


def task_rows(dag_id: str) -> dict[str, Any]:
    """The task instances of a DAG's run by task id, detached."""
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session(scoped=False) as session:
        rows = session.execute(
            select(
                TaskInstance.task_id,
                TaskInstance.id,
                TaskInstance.state,
                TaskInstance.external_executor_id,
                TaskInstance.try_number,
                TaskInstance.queued_by_job_id,
            ).where(TaskInstance.dag_id == dag_id)
        )
        return {row.task_id: row for row in rows}


def set_task(dag_id: str, task_id: str, **values: Any) -> None:
    """Change a task instance as Airflow's API or a user would."""
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session
    from sqlalchemy import update

    with create_session(scoped=False) as session:
        session.execute(
            update(TaskInstance)
            .where(TaskInstance.dag_id == dag_id, TaskInstance.task_id == task_id)
            .values(**values)
            .execution_options(synchronize_session=False)
        )
