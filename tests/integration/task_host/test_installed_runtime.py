"""The real Airflow of the lock, from the package index of this machine, through a forward proxy; and a task in it."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from edge_schemas.gate.centre import CentreFacts
from edge_worker.runtime_install.folder import RuntimeFolder
from local.system.proxy import ForwardProxy
from support.airflow.sdk_jobs import sdk_job
from support.worker.whole_worker import WholeWorker, whole_worker

LOCK = Path(__file__).parents[3] / "compose" / "images" / "requirements" / "runtime.txt"
MOST_BYTES = 400 * 10**6


@pytest.fixture
async def proxy(tmp_path: Path) -> AsyncIterator[ForwardProxy]:
    """Knows no way but tunnels, and wants a password."""
    proxy = ForwardProxy(tmp_path / "proxy")
    await proxy.start()
    yield proxy
    await proxy.stop()


@pytest.fixture
async def worker(tmp_path: Path, short_dir: Path) -> AsyncIterator[WholeWorker]:
    async with whole_worker(tmp_path, short_dir) as worker:
        worker.runtime_python = ""
        yield worker


async def runtime(worker: WholeWorker, *arguments: str, **more: str) -> str:
    """`edge-worker runtime` with this machine's own configuration of pip."""
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "edge_worker", "runtime", *arguments),
        *("--state-dir", str(worker.settings.state_dir)),
        env=environment | more,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return output.decode()


@pytest.mark.soak
@pytest.mark.timeout(1800)
async def test_a_task_runs_in_what_was_installed_through_a_proxy(worker: WholeWorker, proxy: ForwardProxy) -> None:
    lock = LOCK.read_text()
    worker.relay.centre = CentreFacts(airflow_version="3.3.2", python_version="3.12.1", runtime_lock=lock)
    output = await runtime(worker, "install", HTTPS_PROXY=proxy.url_with_login(), NO_PROXY="127.0.0.1")
    assert proxy.login.password not in output
    assert proxy.tunnels()
    known = RuntimeFolder(worker.settings.state_dir / "runtime").current()
    assert known is not None
    folder, facts = known
    assert facts.size_bytes < MOST_BYTES
    assert "Airflow 3.3.2" in await runtime(worker, "show")
    job = sdk_job("hello")
    job = job.model_copy(update={"work": job.work.model_copy(update={"airflow_version": "3.3.2"})})
    await worker.start_agent()
    await worker.relay.publish(job)
    outcome = (await worker.ended(job.id)).outcome
    assert outcome is not None
    assert (outcome.exit_code, worker.api.states) == (0, {job.id: "success"})
    [host] = await worker.host_pids()
    assert _command(host).startswith(os.fsencode(folder))
    # What is started later finds all bytecode made: on a small machine that is most of the first start.
    assert not [path for path in folder.rglob("airflow/sdk/**/*.py") if not _bytecode(path)]


def _command(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def _bytecode(path: Path) -> bool:
    return bool(list(path.parent.glob(f"__pycache__/{path.stem}.*.pyc")))
