"""Tasks that plant code in the version or in the packages that they run with: the next task runs the true code."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from edge_schemas.wire.jobs import Job
from edge_worker.state.state import StateDir
from support.airflow.api.execution_api import eventually
from support.airflow.sdk_jobs import sdk_job
from support.bundles.wheels import make_wheel
from support.relay.bundles import MadeBundle, make_bundle
from support.worker.whole_worker import WholeWorker, whole_worker

pytestmark = pytest.mark.timeout(300)

_DAG = """
import importlib.util, marshal, os, pathlib, stat, sys
import pendulum
from airflow.sdk import dag, task
from company.greetings import greeting

TREE = pathlib.Path(__file__).parent.parent
EVIL = "def greeting():\\n    return 'evil'\\n"

def unlock(root):
    for path in [root, *root.rglob("*")]:
        if not path.is_symlink():
            path.chmod(path.stat().st_mode | 0o200)

def plant(source, flags):
    "Bytecode in place of what Python would keep for a source: with its size and time, or never compared with it."
    code = marshal.dumps(compile(EVIL, str(source), "exec"))
    found = source.stat()
    head = int(found.st_mtime).to_bytes(4, "little") + found.st_size.to_bytes(4, "little") if flags == 0 else bytes(8)
    cached = pathlib.Path(importlib.util.cache_from_source(source))
    cached.unlink(missing_ok=True)
    cached.write_bytes(importlib.util.MAGIC_NUMBER + flags.to_bytes(4, "little") + head + code)

@dag(schedule=None, start_date=pendulum.datetime(2026, 1, 1))
def planter():
    @task
    def timestamped():
        unlock(TREE)
        plant(TREE / "company/greetings.py", 0)
    @task
    def unchecked():
        unlock(TREE)
        plant(TREE / "company/greetings.py", 1)
    @task
    def same_size():
        unlock(TREE)
        source = TREE / "company/greetings.py"
        found = source.stat()
        source.write_text(source.read_text().replace("true", "evil"))
        os.utime(source, ns=(found.st_atime_ns, found.st_mtime_ns))
        source.chmod(0o444)
    @task
    def folder():
        unlock(TREE)
        (TREE / "company").rename(TREE.parent / "moved")
        (TREE.parent / "evil").mkdir()
        (TREE.parent / "evil/__init__.py").write_text("")
        (TREE.parent / "evil/greetings.py").write_text(EVIL)
        (TREE / "company").symlink_to(TREE.parent / "evil")
    @task
    def shadows():
        unlock(TREE)
        for name in ("company", "pendulum", "sitecustomize", "usercustomize", "conftest", "dags/company"):
            (TREE / f"{name}.py").write_text("print('evil')")
        (TREE / "evil.pth").write_text("import sys; print('evil')")
    @task
    def packages():
        import edge_greetings
        site = pathlib.Path(edge_greetings.__file__).parent
        unlock(site)
        pathlib.Path(edge_greetings.__file__).write_text("WORD = 'evil'")
        (site / "evil.pth").write_text("import sys; print('evil')")
        (site / "sitecustomize.py").write_text("print('evil')")
    @task
    def packages_bytecode():
        import edge_greetings
        source = pathlib.Path(edge_greetings.__file__)
        unlock(source.parent)
        global EVIL
        EVIL = "WORD = 'evil'"
        plant(source, 1)
    @task
    def say():
        print("says", greeting(), "by", greeting.__code__.co_filename)
        try:
            import edge_greetings
        except ImportError:
            pass
        else:
            print("has", edge_greetings.WORD)
    for do in (timestamped, unchecked, same_size, folder, shadows, packages, packages_bytecode, say):
        do()

planter()
"""


def _bundle(requirements: str = "") -> MadeBundle:
    files = {
        "dags/planter.py": _DAG,
        "company/__init__.py": "",
        "company/greetings.py": "def greeting():\n    return 'true'\n",
        "needs.txt": requirements,
    }
    return make_bundle({path: text.encode() for path, text in files.items()}, name="code")


def _job(bundle: MadeBundle, task: str, *, requires: bool = False) -> Job:
    job = bundle.run_by(sdk_job(task, bundle="code", dag_id="planter", dag_file="dags/planter.py"))
    assert job.bundle is not None
    ref = job.bundle.model_copy(update={"requirements": "needs.txt" if requires else None})
    return job.model_copy(update={"bundle": ref})


@pytest.fixture
async def worker(tmp_path: Path, short_dir: Path) -> AsyncIterator[WholeWorker]:
    wheels = tmp_path / "wheels"
    make_wheel(wheels, "edge_greetings", "1.0", "WORD = 'hello'\n")
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
    lines = worker.events(job.id)
    assert worker.api.states.get(job.id) == "success", lines
    return lines


async def test_what_a_task_plants_in_its_version_is_not_run_by_the_next_one(worker: WholeWorker) -> None:
    """Also by a new agent, which finds what was planted before its start."""
    bundle = _bundle()
    worker.relay.bundles.publish(bundle)
    await worker.start_agent()
    source = StateDir(worker.settings.state_dir).bundles / "versions" / bundle.digest / "tree/company/greetings.py"
    for planting in ("timestamped", "unchecked", "same_size", "folder", "shadows"):
        await _ends(worker, _job(bundle, planting))
        if planting in {"unchecked", "folder"}:
            await worker.kill_agent()
            await worker.start_agent()
        lines = await _ends(worker, _job(bundle, "say"))
        assert f"says true by {source}" in lines, (planting, lines)
        assert "evil" not in lines, planting
    await eventually(lambda: bool(list((source.parent / "__pycache__").glob("greetings.*.pyc"))), within_s=60)
    lines = await _ends(worker, _job(bundle, "say"))
    assert f"says true by {source}" in lines, "with the bytecode of the agent"


async def test_what_a_task_plants_in_the_packages_of_its_version_is_not_run_by_the_next_one(
    worker: WholeWorker,
) -> None:
    bundle = _bundle("edge-greetings==1.0\n")
    worker.relay.bundles.publish(bundle)
    await worker.start_agent()
    assert "has hello" in await _ends(worker, _job(bundle, "say", requires=True))
    for planting in ("packages", "packages_bytecode"):
        await _ends(worker, _job(bundle, planting, requires=True))
        lines = await _ends(worker, _job(bundle, "say", requires=True))
        assert "has hello" in lines, (planting, lines)
        assert "evil" not in lines, planting
    assert worker.log.read_bytes().count(b"environment_changed_on_disk") == 2
