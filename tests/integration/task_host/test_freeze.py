"""Tasks of a real Task SDK that stand still at their fence while their agent is killed."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from edge_schemas.life.events import GiveUp, ReportUserCode
from edge_schemas.life.transition import transition
from edge_schemas.wire.jobs import Job
from edge_schemas.wire.offline import OfflinePolicy
from edge_worker.state.runtime_dir import SOCKET_NAME
from edge_worker.task_host import job_files, lease
from support.airflow.api.execution_api import eventually
from support.airflow.sdk_jobs import sdk_job
from support.worker.agent import NAME
from support.worker.processes import STOPPED, user_code_states
from support.worker.whole_worker import WholeWorker, whole_worker

pytestmark = pytest.mark.timeout(120)

POLICY = OfflinePolicy(tolerance_s=10)
"""The shortest: frozen after 5 s, and everything that no agent sees to is gone after 9."""
LOOKS = 18
"""Of supervisors for an agent: beats, guards and repeated reads of all tasks together."""


@pytest.fixture
async def worker(tmp_path: Path, short_dir: Path) -> AsyncIterator[WholeWorker]:
    async with whole_worker(tmp_path, short_dir) as worker:
        yield worker


async def _start(worker: WholeWorker, task: str) -> Job:
    job = sdk_job(task, offline=POLICY)
    await worker.relay.publish(job)
    await worker.relay.until(lambda: any(call.job == job.id and call.method == "GET" for call in worker.relay.calls))
    event = ReportUserCode(worker=NAME, hostname="h", pid=1, at=datetime.now(UTC))
    worker.relay.records[job.id] = transition(worker.relay.records[job.id], event)
    return job


async def _until_frozen(worker: WholeWorker, *jobs: Job) -> None:
    for job in jobs:
        folder = worker.folder(job.id)
        # Mypy cannot infer a lambda whose parameter has a default.
        await eventually(lambda folder=folder: user_code_states(folder) == STOPPED)  # type: ignore[misc]


async def _hear_looks(worker: WholeWorker) -> None:
    """Stands where the dead agent stood, answers nothing, and waits until the supervisors have looked often enough."""
    assert worker.settings.runtime_dir is not None
    socket = worker.settings.runtime_dir / SOCKET_NAME
    heard = asyncio.Semaphore(0)

    def hear(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()
        heard.release()

    socket.unlink()
    async with await asyncio.start_unix_server(hear, socket):
        for _ in range(LOOKS):
            await heard.acquire()


def _run_lease_out(worker: WholeWorker) -> None:
    """As if the agent had been dead for an hour."""
    assert worker.settings.runtime_dir is not None
    content = {"boot": job_files.boot_id(), "sent_at": lease.now() - 3600}
    (worker.settings.runtime_dir / lease.LEASE).write_text(json.dumps(content))


async def test_frozen_tasks_outlive_their_agent_and_the_next_one_asks(worker: WholeWorker, tmp_path: Path) -> None:
    """Two continue as if nothing had happened, one of them in a read; the third, given up meanwhile, is killed."""
    flag, read = tmp_path / "flag", asyncio.Event()
    worker.api.variables |= {"flag": str(flag), "v1": "REAL"}
    worker.api.held["variables/v1"] = read
    await worker.start_agent()
    reads, ticks, given_up = jobs = [await _start(worker, task) for task in ("read_with_default", "tick", "tick")]
    await worker.until_printed(given_up.id, "tick 1")
    await worker.relay.until(lambda: len(worker.relay.polls[-1].jobs) == len(jobs))
    await worker.relay.stop()
    await _until_frozen(worker, *jobs)
    flag.touch()
    await worker.kill_agent()
    _run_lease_out(worker)
    await _hear_looks(worker)
    await _until_frozen(worker, *jobs)
    event = GiveUp(reason="no contact", at=datetime.now(UTC))
    worker.relay.records[given_up.id] = transition(worker.relay.records[given_up.id], event)
    folder = worker.folder(given_up.id)
    read.set()
    await worker.start_agent()
    await worker.relay.start()
    for job, printed in ((reads, "value: REAL"), (ticks, "tick 2")):
        await worker.ended(job.id)
        await worker.until_printed(job.id, printed)
    await eventually(lambda: not folder.exists())
    assert worker.api.states == {reads.id: "success", ticks.id: "success"}
    assert {job_id: finishes[0].exit_code for job_id, finishes in worker.relay.finishes.items()} == {
        reads.id: 0,
        ticks.id: 0,
    }
    assert "tick 2" not in worker.events(given_up.id)
    assert any("sent SIGKILL" in event for event in worker.events(given_up.id))
