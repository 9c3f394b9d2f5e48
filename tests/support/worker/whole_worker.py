"""A whole worker as users run it, agent and task host as processes, against a fake relay with an Execution API."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from edge_schemas.life.model import JobRecord, JobState
from edge_worker.processes.tree import is_alive
from edge_worker.settings import Settings
from edge_worker.state.state import StateDir
from support.airflow.api.execution_api import ExecutionApi, eventually
from support.relay.fake_relay import FakeRelay, SeenCall, execution_answer
from support.worker.agent import make_identity
from support.worker.agent_process import EDGE_WORKER, agent_environment, kill_jobs

DAGS = Path(__file__).parents[2] / "integration" / "task_host" / "dags"


@dataclass
class WholeWorker:
    """The worker, and what its tasks are answered.

    Attributes:
        prefix: A command that the agent is started by.
        log: Of all its agents.
        runtime_python: Empty leaves it to the default.
    """

    settings: Settings
    relay: FakeRelay
    api: ExecutionApi
    log: Path
    prefix: tuple[str, ...] = ()
    more: dict[str, str] = field(default_factory=dict)
    runtime_python: str = sys.executable
    agent: asyncio.subprocess.Process | None = None

    async def start_agent(self) -> None:
        """A new agent on the same folders."""
        environment = agent_environment(
            self.settings,
            **{
                "EDGE_WORKER_BUNDLES": json.dumps({"dags": str(DAGS)}),
                "EDGE_WORKER_RUNTIME_PYTHON": self.runtime_python,
                "LANG": "C.UTF-8",
                **self.more,
            },
        )
        with self.log.open("ab") as log:
            self.agent = await asyncio.create_subprocess_exec(
                *self.prefix,
                *EDGE_WORKER,
                "run",
                env=environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    async def kill_agent(self) -> None:
        """`kill -9`."""
        agent, self.agent = self.agent, None
        if agent is not None:
            with contextlib.suppress(ProcessLookupError):
                agent.send_signal(signal.SIGKILL)
            await agent.wait()

    async def host_pids(self) -> list[int]:
        """The task hosts that listen."""
        assert self.settings.runtime_dir is not None
        pids = []
        for path in self.settings.runtime_dir.glob("h??????"):
            with contextlib.suppress(OSError):
                reader, writer = await asyncio.open_unix_connection(path)
                writer.write(b'{"op": "hello"}\n')
                pids.append(json.loads(await reader.readline())["pid"])
                writer.close()
        return pids

    async def kill_host(self) -> None:
        """`kill -9`."""
        for pid in await self.host_pids():
            os.kill(pid, signal.SIGKILL)

    def folder(self, job_id: str) -> Path:
        """Of a job that is not settled."""
        return StateDir(self.settings.state_dir).job_dir(job_id).path

    def events(self, job_id: str) -> list[str]:
        """What the relay has of a log."""
        lines = bytes(self.relay.logs.get(job_id, b"")).split(b"\n")[:-1]
        return [_event(line) for line in lines if line]

    async def until_printed(self, job_id: str, text: str) -> None:
        """A line has reached the relay."""
        await self.relay.until(lambda: text in self.events(job_id))

    async def until_gone(self, job_id: str) -> None:
        """No process of the job is left."""
        folder = self.folder(job_id)
        await eventually(lambda: not is_alive(folder), within_s=60)

    async def ended(self, job_id: str) -> JobRecord:
        """The record of a job once it has ended."""
        await self.relay.until(lambda: self.relay.state(job_id) is JobState.ENDED)
        return self.relay.records[job_id]

    async def answer(self, call: SeenCall) -> web.Response:
        """As Airflow would."""
        body: Any = json.loads(call.body) if call.body else None
        held = self.api.held.get(call.raw_path)
        if held is not None:
            await held.wait()
        status, answer = self.api.answer(call.job, call.method, call.raw_path, body)
        return execution_answer(status, answer)


@asynccontextmanager
async def whole_worker(root: Path, runtime_dir: Path, *, slots: int = 3) -> AsyncIterator[WholeWorker]:
    """An enrolled worker whose agent is not started yet. All its processes are killed at the end."""
    relay = FakeRelay()
    await relay.start()
    settings = Settings(state_dir=root / "state", runtime_dir=runtime_dir, slots=slots, grace_s=0.5)
    state = StateDir(settings.state_dir)
    state.prepare()
    state.complete_enrollment(make_identity(relay))
    worker = WholeWorker(settings, relay, ExecutionApi(runtime_dir / "unused"), root / "agent.log")
    relay.execution = worker.answer
    try:
        yield worker
    finally:
        await worker.kill_agent()
        await worker.kill_host()
        kill_jobs(settings.state_dir / "jobs")
        await relay.stop()


def _event(line: bytes) -> str:
    """Of a line in a log; one that a full disk has torn is shown as it is."""
    try:
        return str(json.loads(line)["event"])
    except ValueError:
        return line.decode(errors="replace")
