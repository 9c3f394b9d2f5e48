"""A runtime without Airflow: jobs are Python snippets in real processes that write the same files as real jobs.

`tests/contract/test_runtime.py` runs the same cases against this runtime and a real task host.
"""

import asyncio
import sys
from pathlib import Path

from typing_extensions import override

from edge_schemas.wire.jobs import Job
from edge_worker.host_client.client import LaunchError, TaskHost
from support.relay.jobs import make_job


def script_job(script: str, queue: str = "default") -> Job:
    """A job that runs a Python snippet. `print` goes to its log; `call(method, path, body)` speaks to the gateway."""
    job = make_job(queue)
    return job.model_copy(update={"work": job.work.model_copy(update={"workload": {"script": script}})})


class FakeRuntime(TaskHost):
    """Launches snippets; detects their end as the real task host does, by lock and result file.

    Attributes:
        is_ready: False while the runtime has no version yet.
        launch_fails: If set, no job can be launched, for this reason.
        launched: The jobs so far.
    """

    def __init__(self, socket: Path, state_dir: Path) -> None:
        super().__init__(
            runtime_python=Path(sys.executable),
            runtime_dir=socket.parent,
            state_dir=state_dir,
            gateway_socket=socket,
            env={},
            bundles={},
            hostname="w.s",
        )
        self._socket = socket
        self.is_ready = True
        self.launch_fails: str | None = None
        self.launched: list[str] = []
        self.codes: dict[str, Path | None] = {}

    @override
    async def run_forever(self) -> None:
        await asyncio.Event().wait()

    @override
    async def versions(self) -> str | None:
        return "3.3.2" if self.is_ready else None

    @override
    async def launch(self, job: Job, job_dir: Path, code: Path | None = None) -> None:
        if self.launch_fails:
            raise LaunchError(self.launch_fails)
        self.launched.append(job.id)
        self.codes[job.id] = code
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(Path(__file__).with_name("fake_supervisor.py")),
            job.id,
            str(job_dir),
            str(self._socket),
            job.task.ti_id if job.task is not None else "none",
            str(job.workload["script"]),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
        )
        async with asyncio.timeout(20):
            status = await process.wait()
        if status != 0:
            raise LaunchError("this job was already started here")
