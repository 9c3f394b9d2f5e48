"""A task host in the interpreter that runs the tests, with a stand-in for the agent's gateway and a folder of DAGs."""

import asyncio
import contextlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge_schemas.wire.jobs import Job
from edge_worker.host_client.client import TaskHost
from edge_worker.host_client.job_end import JobResult
from edge_worker.task_host import job_files
from support.airflow.api.execution_api import ExecutionApi, serve_execution_api
from support.airflow.sdk_jobs import sdk_job
from support.worker.agent_process import kill_jobs

DAGS = Path(__file__).parents[2] / "integration" / "task_host" / "dags"


@dataclass
class Site:
    """An edge machine: folders, a gateway, a task host.

    Attributes:
        host: The agent's end of the task host; replaced by `restarted_agent`.
    """

    root: Path
    runtime_dir: Path
    api: ExecutionApi
    runtime_python: Path = Path(sys.executable)
    bundles: dict[str, str] = field(default_factory=lambda: {"dags": str(DAGS), "gone": "/nowhere/at/all"})
    env: dict[str, str] = field(default_factory=lambda: {"PATH": os.environ["PATH"], "LANG": "C.UTF-8"})
    _host: TaskHost | None = None

    @property
    def host(self) -> TaskHost:
        assert self._host is not None
        return self._host

    def make_host(self) -> TaskHost:
        """A new agent's end, with the same folders and settings."""
        return TaskHost(
            runtime_python=self.runtime_python,
            runtime_dir=self.runtime_dir,
            state_dir=self.root / "state",
            gateway_socket=self.api.socket,
            env=self.env,
            bundles=self.bundles,
            hostname="press-17.plant",
        )

    @asynccontextmanager
    async def agent(self) -> AsyncIterator[TaskHost]:
        """Runs a task host as the agent does."""
        self._host = self.make_host()
        running = asyncio.create_task(self._host.run_forever())
        try:
            yield self._host
        finally:
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running

    def folder(self, job: Job) -> Path:
        """The job's folder, made if need be."""
        path = self.root / "jobs" / job.id
        path.mkdir(parents=True, exist_ok=True)
        return path

    async def launch(self, task: str | Job, **options: Any) -> tuple[Job, Path]:
        """Start a task, or another job."""
        job = sdk_job(task, **options) if isinstance(task, str) else task
        await self.host.launch(job, self.folder(job))
        return job, self.folder(job)

    async def run(self, task: str | Job, **options: Any) -> tuple[Job, JobResult]:
        """Run a task, or another job, to its end."""
        job, folder = await self.launch(task, **options)
        return job, await self.host.wait(folder)

    def events(self, job: Job) -> list[str]:
        """What stands in the task's log, one string a line."""
        path = self.folder(job) / job_files.TASK_LOG
        # The last line may be on its way.
        lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
        return [str(json.loads(line)["event"]) for line in lines]

    def kill_jobs(self) -> None:
        """End the jobs that a failed test left running."""
        kill_jobs(self.root / "jobs")


@asynccontextmanager
async def make_site(root: Path) -> AsyncIterator[Site]:
    """An edge machine; its sockets live under a short path, as they must."""
    runtime_dir = Path(tempfile.mkdtemp(prefix="er-"))
    # What a careless library in the agent leaves open and inheritable.
    agents_own = os.open(__file__, os.O_RDONLY)
    os.set_inheritable(agents_own, True)
    try:
        async with serve_execution_api(runtime_dir / "gw.sock") as api:
            site = Site(root, runtime_dir, api)
            yield site
            site.kill_jobs()
    finally:
        os.close(agents_own)
        # What ends only now removes its sockets at the same time.
        shutil.rmtree(runtime_dir, ignore_errors=True)
