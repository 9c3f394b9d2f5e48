"""DAGs of published bundles that require packages: installed by the real uv from wheels, run by a whole worker."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from edge_schemas.life.model import Verdict
from edge_schemas.wire.jobs import Job
from edge_worker.state.state import StateDir
from support.airflow.sdk_jobs import sdk_job
from support.bundles.wheels import make_wheel
from support.relay.bundles import make_bundle
from support.worker.whole_worker import WholeWorker, whole_worker

pytestmark = pytest.mark.timeout(180)

_DAG = """
import os, subprocess
import pendulum
from airflow.sdk import dag, task

@dag(schedule=None, start_date=pendulum.datetime(2026, 1, 1))
def need():
    @task
    def use():
        try:
            import edge_greetings
        except ImportError:
            print("has no greetings")
        else:
            import airflow.providers.edge_greetings
            print("says", edge_greetings.WORD)
            print(subprocess.run(["edge_greetings-cli"], capture_output=True, text=True).stdout.strip())
    use()

need()
"""
_MODULE = """
WORD = "hello"
def main():
    import pydantic
    print("by a program that sees pydantic of the runtime" if pydantic.VERSION else "")
"""


def _job(worker: WholeWorker, requirements: str | None) -> Job:
    files = {"need.py": _DAG, "needs.txt": requirements or ""}
    bundle = make_bundle({path: text.encode() for path, text in files.items()}, name="code")
    worker.relay.bundles.publish(bundle)
    job = bundle.run_by(sdk_job("use", bundle="code", dag_id="need", dag_file="need.py"))
    assert job.bundle is not None
    ref = job.bundle.model_copy(update={"requirements": None if requirements is None else "needs.txt"})
    return job.model_copy(update={"bundle": ref})


@pytest.fixture
async def worker(tmp_path: Path, short_dir: Path) -> AsyncIterator[WholeWorker]:
    wheels = tmp_path / "wheels"
    make_wheel(wheels, "edge_greetings", "1.0", _MODULE)
    make_wheel(wheels, "edge_conflict", "1.0", "", requires="pydantic<2")
    async with whole_worker(tmp_path, short_dir) as worker:
        worker.more = {
            "EDGE_WORKER_BUNDLES": "{}",
            "EDGE_WORKER_BUNDLE_REQUIREMENTS": "true",
            "UV_NO_INDEX": "1",
            "UV_FIND_LINKS": str(wheels),
        }
        yield worker


async def _ends(worker: WholeWorker, job: Job) -> list[str]:
    await worker.relay.publish(job)
    await worker.ended(job.id)
    return worker.events(job.id)


async def test_task_imports_what_its_bundle_requires_and_others_do_not_see_it(worker: WholeWorker) -> None:
    await worker.start_agent()
    lines = await _ends(worker, _job(worker, "edge-greetings==1.0\n"))
    assert "says hello" in lines, lines
    assert "by a program that sees pydantic of the runtime" in lines, lines
    assert "has no greetings" in await _ends(worker, _job(worker, None))
    # Also by an agent that has not made it.
    await worker.kill_agent()
    await worker.start_agent()
    lines = await _ends(worker, _job(worker, "edge-greetings==1.0\n"))
    assert "says hello" in lines, lines
    assert not any(line.startswith("uv:") for line in lines), "made once"
    folders = list(StateDir(worker.settings.state_dir).environments.iterdir())
    assert len(folders) == 1


async def test_conflict_with_the_runtime_fails_the_task_with_the_output_of_uv(worker: WholeWorker) -> None:
    await worker.start_agent()
    job = _job(worker, "edge-conflict\n")
    lines = await _ends(worker, job)
    assert any(line.startswith("uv:") and "pydantic" in line for line in lines), lines
    assert any("uv ended with status 1" in line for line in lines), lines
    outcome = worker.relay.records[job.id].outcome
    assert outcome is not None
    assert outcome.verdict is Verdict.FAILED


async def test_stop_during_the_installation_ends_it(worker: WholeWorker) -> None:
    asked, closed = asyncio.Event(), asyncio.Event()

    async def never_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        while await reader.read(1024):
            pass
        closed.set()
        writer.close()

    index = await asyncio.start_server(never_answer, "127.0.0.1", 0)
    port = index.sockets[0].getsockname()[1]
    del worker.more["UV_NO_INDEX"], worker.more["UV_FIND_LINKS"]
    worker.more["UV_DEFAULT_INDEX"] = f"http://me:secret@127.0.0.1:{port}/simple"
    await worker.start_agent()
    job = _job(worker, "edge-greetings\n")
    await worker.relay.publish(job)
    await asked.wait()
    await worker.relay.withdraw(job.id)
    await closed.wait()
    await worker.relay.until(lambda: not list(StateDir(worker.settings.state_dir).environments.iterdir()))
    assert not any("secret" in line for line in worker.events(job.id))
    assert b"secret" not in worker.log.read_bytes()
    index.close()


async def test_worker_whose_owner_has_not_allowed_it_rejects_the_job(worker: WholeWorker) -> None:
    worker.more = {"EDGE_WORKER_BUNDLES": "{}"}
    await worker.start_agent()
    job = _job(worker, "edge-greetings\n")
    await worker.relay.publish(job)
    await worker.relay.until(lambda: b"job_not_allowed" in worker.log.read_bytes())
    assert not StateDir(worker.settings.state_dir).environments.exists()
