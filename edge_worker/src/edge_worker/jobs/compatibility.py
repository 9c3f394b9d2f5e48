"""Makes the worker reject jobs that its Airflow runtime is too new for, and report the reason in its log and polls."""

import asyncio
from dataclasses import dataclass

from edge_schemas.life.versions import runtime_mismatch
from edge_schemas.wire.jobs import Job, TaskWork
from edge_worker.jobs.registry import JobRegistry
from edge_worker.log import EventLog

RETRY_S = 300.0
"""After this time one job is accepted, since the centre may have been upgraded in the meantime."""
_CAUSE = "runtime_version"

log = EventLog("edge_worker.jobs.compatibility")


@dataclass
class RuntimeCompatibility:
    """The version of the runtime, and whether the worker may accept jobs with it.

    Attributes:
        airflow: Airflow's version in the runtime; None until a task host has reported it.
    """

    table: JobRegistry
    airflow: str | None = None

    def found(self, version: str) -> None:
        """A task host is ready and reports its version; called each time a task host is ready."""
        if version != self.airflow:
            self.airflow = version
            self.table.open_intake(_CAUSE)

    def refusal(self, job: Job) -> str | None:
        """Why a granted job can't be run by this runtime."""
        wanted = job.work.airflow_version if isinstance(job.work, TaskWork) else None
        return None if wanted is None else self.refused(wanted)

    def refused(self, centre: str) -> str | None:
        """The centre has this version of Airflow: accept no jobs if the runtime is too new for it.

        Returns:
            The reason, if the runtime is too new.
        """
        fault = runtime_mismatch(self.airflow, centre)
        if fault is not None and self.table.close_intake(_CAUSE, fault):
            log.error("runtime_too_new", runtime=self.airflow, centre=centre, means=fault)
            asyncio.get_running_loop().call_later(RETRY_S, self.table.open_intake, _CAUSE)
        return fault
