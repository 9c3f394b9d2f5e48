"""From a workload that the scheduler hands out to its job and its entry in the dispatch table."""

from datetime import datetime
from typing import TYPE_CHECKING

from airflow.executors.workloads import ExecuteTask

from edge_bridge.airflow.base_executor import key_of_task
from edge_bridge.airflow.dispatch_table import Entry
from edge_bridge.airflow.mapping import JobMaker, KeyedTask, auxiliary_of, identity_of
from edge_schemas.wire.jobs import Job

if TYPE_CHECKING:
    from airflow.executors.base_executor import BaseExecutor

    from edge_bridge.airflow.mapping import Workload


class EntryMaker:
    """Makes jobs and entries for one executor.

    Args:
        executor: Knows its team and Airflow's keys.
        maker: Makes the jobs.
    """

    def __init__(self, executor: "BaseExecutor", maker: JobMaker) -> None:
        self._executor = executor
        self._maker = maker

    def accept(self, workload: "Workload", now: datetime) -> tuple[Entry, Job]:
        """The entry and the job of a workload.

        Raises:
            JobRefused: It can't become a job.
        """
        if isinstance(workload, ExecuteTask):
            job = self._maker.task(workload, now)
        else:
            job = self._maker.auxiliary(workload, now)
        return self.entry(workload, job.id), job

    def entry(self, workload: "Workload", job: str) -> Entry:
        """The entry of a workload that has this job.

        Raises:
            JobRefused: It is an auxiliary job whose id is no UUID.
        """
        if isinstance(workload, ExecuteTask):
            return self.task_entry(workload.ti, job)
        auxiliary = auxiliary_of(workload)
        return Entry(workload.key, job, dispatch=auxiliary.id, auxiliary=auxiliary, team=self._executor.team_name)

    def task_entry(self, ti: KeyedTask, job: str) -> Entry:
        """The entry of a task instance that has this job."""
        dispatch = getattr(ti, "external_executor_id", None)
        key = key_of_task(self._executor, ti)
        return Entry(key, job, dispatch=dispatch, task=identity_of(ti), team=self._executor.team_name)
