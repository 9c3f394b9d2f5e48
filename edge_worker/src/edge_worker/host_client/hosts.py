"""Which host runs a job: Airflow's work runs in the task host, a command under a supervisor of its own."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from edge_schemas.wire.jobs import Job, JobKind
from edge_schemas.wire.polls import PollKind
from edge_worker.host_client.command_rules import CommandRules
from edge_worker.host_client.job_end import JobResult


class Host(Protocol):
    """Runs the processes of jobs; `TaskHost` or `CommandHost`."""

    async def launch(self, job: Job, job_dir: Path, code: Path | None = None) -> None:
        """Start a job, with the folder of its published code if it names one; raises `LaunchError`."""

    async def wait(self, job_dir: Path, on_exit: Callable[[], None]) -> JobResult:
        """Wait for the end of a job; calls `on_exit` once the task's own process has exited."""


class Runtime(Host, Protocol):
    """Runs Airflow's work; `TaskHost`."""

    async def run_forever(self) -> None:
        """Keeps the runtime ready until cancelled."""

    async def versions(self) -> str | None:
        """Airflow's version; None while the runtime is not ready."""


@dataclass(frozen=True)
class Hosts:
    """What runs the jobs of a worker.

    Attributes:
        commands: Also where the owner allows none: a command that was started before may have to be followed.
        rules: Of the owner.
    """

    tasks: Runtime
    commands: Host
    rules: CommandRules

    @property
    def other_kinds(self) -> tuple[PollKind, ...]:
        """What the worker accepts besides tasks."""
        return (JobKind.COMMAND,) if self.rules.allows_some else ()

    def of(self, job: Job) -> Host:
        """The host that runs a job."""
        return self.commands if job.kind is JobKind.COMMAND else self.tasks
