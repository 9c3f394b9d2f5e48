"""DAGs of published bundles: run by a whole worker that has nothing but the relay's URL and a credential."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from edge_schemas.life.model import Verdict
from edge_schemas.wire.errors import ErrorCode
from edge_schemas.wire.jobs import Job, TaskWork
from edge_worker.state.state import StateDir
from support.airflow.api.execution_api import eventually
from support.airflow.sdk_jobs import sdk_job
from support.relay.bundles import MadeBundle, make_bundle
from support.relay.fake_relay import problem_answer
from support.worker.whole_worker import WholeWorker, whole_worker

pytestmark = pytest.mark.timeout(180)

_DAG = """
import os, time
import pendulum
from airflow.sdk import dag, task
from company.greetings import greeting

@dag(schedule=None, start_date=pendulum.datetime(2026, 1, 1))
def greet():
    @task
    def say():
        print(greeting(), "from", os.path.dirname(os.path.dirname(__file__)).rpartition("/versions/")[2])
    @task
    def wait():
        print("begins with", greeting())
        while not os.path.exists(os.environ["GO"]):
            time.sleep(0.05)
        from company.late import late
        print("ends with", late())
    @task
    def write():
        import company
        try:
            open(company.__file__, "a").write("# changed")
        except OSError as error:
            print("refused:", error.strerror)
    say() >> wait() >> write()

greet()
"""


def _bundle(word: str) -> MadeBundle:
    files = {
        "dags/greet.py": _DAG,
        "company/__init__.py": "",
        "company/greetings.py": f"def greeting():\n    return {word!r}\n",
        "company/late.py": f"def late():\n    return {word!r}\n",
    }
    return make_bundle({path: text.encode() for path, text in files.items()}, name="code")


def _job(bundle: MadeBundle, task: str) -> Job:
    return bundle.run_by(sdk_job(task, bundle="code", dag_id="greet", dag_file="dags/greet.py"))


def _pinned(job: Job) -> Job:
    """As Airflow queues it if the run is bound to a version."""
    assert job.bundle is not None
    assert isinstance(job.work, TaskWork)
    info = {"name": job.bundle.name, "version": job.bundle.digest}
    work = job.work.model_copy(update={"workload": {**job.work.workload, "bundle_info": info}})
    return job.model_copy(update={"work": work})


@pytest.fixture
async def worker(tmp_path: Path, short_dir: Path) -> AsyncIterator[WholeWorker]:
    async with whole_worker(tmp_path, short_dir) as worker:
        worker.more = {"EDGE_WORKER_BUNDLES": "{}", "EDGE_WORKER_TASK_ENV": "GO", "GO": str(tmp_path / "go")}
        yield worker


async def _succeeds(worker: WholeWorker, job: Job) -> list[str]:
    await worker.ended(job.id)
    lines = worker.events(job.id)
    assert worker.api.states.get(job.id) == "success", lines
    return lines


async def test_dag_imports_a_package_of_its_bundle_and_the_next_run_has_the_new_code(
    worker: WholeWorker, tmp_path: Path
) -> None:
    old, new = _bundle("hello"), _bundle("good morning")
    for bundle in (old, new):
        worker.relay.bundles.publish(bundle)
    await worker.start_agent()
    slow = _job(old, "wait")
    await worker.relay.publish(slow)
    await worker.until_printed(slow.id, "begins with hello")

    changed = _pinned(_job(new, "say"))
    await worker.relay.publish(changed)
    assert f"good morning from {new.digest}/tree" in await _succeeds(worker, changed)
    assert "which was fetched" in "".join(worker.events(changed.id))
    assert "names no version" not in "".join(worker.events(changed.id))
    again = _job(old, "say")
    await worker.relay.publish(again)
    assert f"hello from {old.digest}/tree" in await _succeeds(worker, again)

    # The tree stays while a task runs in it, also when the agent is replaced.
    await worker.kill_agent()
    await worker.start_agent()
    await worker.relay.until(lambda: worker.relay.holds_a_poll)
    (tmp_path / "go").touch()
    assert "ends with hello" in await _succeeds(worker, slow)

    cached = StateDir(worker.settings.state_dir).bundles / "versions" / old.digest / "tree"
    compiled = cached / "company" / "__pycache__"
    await eventually(lambda: bool(list(compiled.glob("greetings.*.pyc"))), within_s=60)
    assert len(worker.relay.bundles.asked) == 2, "each version was fetched once, in one request"


async def test_bundle_without_published_version_is_named_in_the_tasks_log(worker: WholeWorker) -> None:
    await worker.start_agent()
    job = sdk_job("say", bundle="code", dag_id="greet", dag_file="dags/greet.py")
    await worker.relay.publish(job)
    record = await worker.ended(job.id)
    assert record.outcome is not None
    assert record.outcome.verdict is Verdict.FAILED
    assert any("is neither published nor mapped to a folder" in line for line in worker.events(job.id))


async def test_agent_that_is_killed_while_it_fetches_continues_within_the_piece(worker: WholeWorker) -> None:
    bundle = _bundle("hello")
    frames = sorted(bundle.frames.items(), key=lambda item: -len(item[1]))
    worker.relay.bundles.publish(bundle)
    worker.relay.bundles.cut_after = [len(frames[0][1]) // 2]
    seen = 0

    def fault(request: web.Request) -> web.Response | None:
        nonlocal seen
        seen += request.path == bundle.pieces_path
        return problem_answer(ErrorCode.BROKER_UNAVAILABLE) if request.path == bundle.pieces_path and seen > 1 else None

    worker.relay.fault = fault
    await worker.start_agent()
    job = _job(bundle, "say")
    await worker.relay.publish(job)
    await worker.relay.until(lambda: seen > 1)
    await worker.kill_agent()
    partial = StateDir(worker.settings.state_dir).bundles / "partial" / bundle.digest / "pieces"
    arrived = sum(path.stat().st_size for path in partial.iterdir())
    assert arrived
    worker.relay.fault = lambda _: None
    await worker.start_agent()
    assert f"hello from {bundle.digest}/tree" in await _succeeds(worker, job)
    last = worker.relay.bundles.asked[-1]
    sent = sum(len(bundle.frames[piece]) for piece in last.pieces) - last.offset
    assert arrived + sent == sum(len(frame) for frame in bundle.frames.values()), "nothing was fetched twice"


async def test_what_a_task_writes_into_its_code_is_refused_or_undone(worker: WholeWorker) -> None:
    bundle = _bundle("hello")
    worker.relay.bundles.publish(bundle)
    await worker.start_agent()
    first, second = _job(bundle, "write"), _job(bundle, "say")
    await worker.relay.publish(first)
    await _succeeds(worker, first)
    await worker.relay.publish(second)
    await _succeeds(worker, second)
    tree = StateDir(worker.settings.state_dir).bundles / "versions" / bundle.digest / "tree"
    await eventually(lambda: (tree / "company" / "__init__.py").read_bytes() == b"", within_s=20)
