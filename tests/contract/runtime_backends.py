"""The fake runtime and a real task host with Airflow, with the same handles for a test."""

import asyncio
import contextlib
from abc import abstractmethod
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from edge_schemas.wire.jobs import Job
from edge_worker.host_client.client import TaskHost
from edge_worker.task_host import job_files
from support.airflow.sdk_jobs import sdk_job
from support.airflow.task_host import Site, make_site
from support.worker.agent_process import kill_jobs
from support.worker.fake_runtime import FakeRuntime, script_job

HELLO = "hello from the edge"


class RuntimeBackend(Protocol):
    """A runtime as an agent uses one.

    Attributes:
        host: The agent's end.
    """

    host: TaskHost

    @abstractmethod
    def another_host(self) -> TaskHost:
        """The end of a restarted agent."""

    @abstractmethod
    def folder(self, job: Job) -> Path:
        """Of the job, made if need be."""

    @abstractmethod
    def hello(self) -> Job:
        """Prints `HELLO` and ends well."""

    @abstractmethod
    def waits(self, flag: Path) -> Job:
        """Prints `tick 1`, waits until the flag exists, prints `tick 2` and ends well."""

    @abstractmethod
    def dies(self) -> Job:
        """Its user code ends by SIGKILL."""

    def log(self, job: Job) -> str:
        """All that stands in the job's log so far."""
        path = self.folder(job) / job_files.TASK_LOG
        return path.read_text() if path.exists() else ""


@dataclass
class Fake(RuntimeBackend):
    """See `RuntimeBackend`."""

    root: Path
    make_host: Callable[[], FakeRuntime]
    host: TaskHost = field(init=False)

    def __post_init__(self) -> None:
        self.host = self.make_host()

    def another_host(self) -> TaskHost:
        return self.make_host()

    def folder(self, job: Job) -> Path:
        path = self.root / "jobs" / job.id
        path.mkdir(parents=True, exist_ok=True)
        return path

    def hello(self) -> Job:
        return script_job(f"print({HELLO!r})")

    def waits(self, flag: Path) -> Job:
        waiting = f"while not os.path.exists({str(flag)!r}): time.sleep(0.02)"
        return script_job(f"print('tick 1', flush=True)\n{waiting}\nprint('tick 2')")

    def dies(self) -> Job:
        return script_job("os.kill(os.getpid(), 9)")


@dataclass
class Real(RuntimeBackend):
    """See `RuntimeBackend`."""

    site: Site
    host: TaskHost

    def another_host(self) -> TaskHost:
        return self.site.make_host()

    def folder(self, job: Job) -> Path:
        return self.site.folder(job)

    def hello(self) -> Job:
        return sdk_job("hello")

    def waits(self, flag: Path) -> Job:
        self.site.api.variables["flag"] = str(flag)
        return sdk_job("tick")

    def dies(self) -> Job:
        return sdk_job("die")


@asynccontextmanager
async def fake_runtime(root: Path) -> AsyncIterator[RuntimeBackend]:
    """The fake one."""
    backend = Fake(root, lambda: FakeRuntime(root / "gw.sock", root / "state"))
    running = asyncio.create_task(backend.host.run_forever())
    try:
        yield backend
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
        kill_jobs(root / "jobs")


@asynccontextmanager
async def real_task_host(root: Path) -> AsyncIterator[RuntimeBackend]:
    """A real one, warm after its first job."""
    async with make_site(root) as site, site.agent() as host:
        yield Real(site, host)
