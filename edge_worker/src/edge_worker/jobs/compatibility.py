"""Makes the worker reject jobs that its owner does not allow, or that its Airflow runtime is too new for."""

import asyncio
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import PurePosixPath

from edge_schemas.life.versions import runtime_mismatch
from edge_schemas.wire.jobs import AuxiliaryKind, CommandWork, Job, TaskWork
from edge_worker.host_client.command_rules import NO_COMMANDS, CommandRules
from edge_worker.jobs.registry import JobRegistry
from edge_worker.log import EventLog

RETRY_S = 300.0
"""After this time one job is accepted, since the centre may have been upgraded in the meantime."""
_TASK = "ExecuteTask"
_UNKNOWN = "unknown"
_KINDS: dict[str, str | None] = {
    _TASK: None,
    "ExecuteCallback": AuxiliaryKind.CALLBACK,
    "TestConnection": AuxiliaryKind.CONNECTION_TEST,
}
_CAUSE = "runtime_version"

log = EventLog("edge_worker.jobs.compatibility")


@dataclass
class RuntimeCompatibility:
    """The version of the runtime, and whether the worker may accept jobs with it.

    Attributes:
        auxiliary: The kinds of auxiliary jobs that the owner allows.
        commands: The owner's rules for commands.
        requirements: The owner allows code that requires packages.
        airflow: Airflow's version in the runtime; None until a task host has reported it.
    """

    table: JobRegistry
    auxiliary: AbstractSet[AuxiliaryKind] = frozenset()
    commands: CommandRules = NO_COMMANDS
    airflow: str | None = None
    requirements: bool = False

    def found(self, version: str) -> None:
        """A task host is ready and reports its version; called each time a task host is ready."""
        if version != self.airflow:
            self.airflow = version
            self.table.open_intake(_CAUSE)

    def refusal(self, job: Job) -> str | None:
        """Why a granted job can't be run by this runtime."""
        wanted = job.work.airflow_version if isinstance(job.work, TaskWork) else None
        return None if wanted is None else self.refused(wanted)

    def forbidden(self, job: Job) -> str | None:
        """Why the job must not be run here, whatever the centre says."""
        why = self._why_forbidden(job)
        if why is not None:
            log.error("job_not_allowed", job=job.id, reason=why)
        return why

    def _why_forbidden(self, job: Job) -> str | None:
        if isinstance(job.work, CommandWork):
            return self.commands.forbidden(job.work)
        if job.airflow_work is None:
            return f"this worker runs no job of kind {job.kind}"
        # What the task host runs follows from the workload alone.
        kind = _KINDS.get(str(job.workload.get("type", _TASK)), _UNKNOWN)
        if kind != (None if job.auxiliary is None else job.auxiliary.kind):
            return "the job and its workload are of different kinds"
        if kind is not None and kind not in self.auxiliary:
            return f"this worker runs no job of kind {kind}: its owner has not allowed it (EDGE_WORKER_AUXILIARY_JOBS)"
        if job.bundle is not None and job.bundle.requirements is not None and not self.requirements:
            return (
                "the code of this job requires packages: the owner of this worker has not allowed to install them "
                "(EDGE_WORKER_BUNDLE_REQUIREMENTS)"
            )
        path = PurePosixPath(str(job.workload.get("dag_rel_path", "")))
        if path.is_absolute() or ".." in path.parts:
            return "the path of the DAG leaves its bundle"
        return None

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
