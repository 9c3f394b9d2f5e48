"""No secret of Airflow is anywhere but in the centre."""

from pathlib import Path

import pytest

from edge_service.signing.key_files import KEY_FILE
from edge_worker.signing.pinned_keys import FILE as PINS_FILE
from local.processes.process_table import process_family
from local.system.airflow_api import wait_for_end
from local.system.proxy import host_and_port
from local.system.system import LocalSystem
from support.network.certificates import make_certificates
from support.network.recorder import Recorder, recording
from support.system.inspection import admin, messages, until
from support.system.search import Search

DAG, TASK = "held", "hold"

pytestmark = pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="memory is read through /proc")


async def test_no_airflow_secret_leaves_the_centre(system: LocalSystem, tmp_path: Path) -> None:
    """Looks while a task runs at the edge, and again at all that was said and stored once it has ended."""
    search = Search(system.airflow.secrets)
    # A standalone relay made the key, so its own folder holds it.
    key = Search({"signing_key": (system.relay_facts.secrets_dir / KEY_FILE).read_text().splitlines()[1]})
    certificates = make_certificates(tmp_path)
    host, port = host_and_port(system.relay_facts.url)
    async with recording(certificates, host, port, system.relay_facts.ca_file) as recorder:
        worker = await system.add_worker(
            "watched", ["watched"], relay_url=recorder.url, extra={"EDGE_WORKER_CA_FILE": str(certificates.ca_file)}
        )
        await system.api.post("variables", {"key": "greeting", "value": "hello"})
        await until(lambda: system.api.has_dag(DAG), timeout_s=30)
        run = await system.api.trigger(DAG)
        await until(lambda: _holding(system, run), timeout_s=40, what="the task runs")
        found = _processes(search, worker.child.pid) | _processes(search, system.relay.child.pid)
        found |= _processes(key, worker.child.pid)
        await system.api.post("variables", {"key": "go", "value": "yes"})
        assert await wait_for_end(system.api, DAG, run, timeout_s=60) == "success"
        assert await system.api.xcom(DAG, run, TASK) == "hello from the edge"
        await worker.stop()
        del system.workers["watched"]
    found |= search.folders([worker.directory, system.workers["edge-1"].directory, system.relay.directory])
    found |= key.folders([worker.directory])
    for each in (search, key):
        found |= await _stored(each, system) | _traffic(each, recorder)
    assert found == set()
    assert '"origin":"first use"' in (worker.state / PINS_FILE).read_text(), "it has checked that the job was signed"


async def test_the_search_finds_them_in_the_centre(system: LocalSystem) -> None:
    """Else the test above would show nothing."""
    search = Search(system.airflow.secrets)
    found = _processes(search, system.airflow.children["keeper"].pid)
    assert {hit.split(" in ")[0] for hit in found} >= {"jwt_secret", "fernet_key", "token"}


async def _holding(system: LocalSystem, run: str) -> bool:
    states = [ti["state"] for ti in await system.api.task_instances(DAG, run)]
    return states == ["running"] and "holding" in str(await system.api.log(DAG, run, TASK))


def _processes(search: Search, pid: int) -> set[str]:
    """What the process and all that descend from it hold; those that end meanwhile are left out."""
    found: set[str] = set()
    looked_at = 0
    for each in process_family(pid):
        try:
            found |= search.process(each)
        except (FileNotFoundError, ProcessLookupError):
            continue
        looked_at += 1
    assert looked_at >= 1
    return found


async def _stored(search: Search, system: LocalSystem) -> set[str]:
    """What the messages of all streams hold, which are compressed in NATS's files."""
    found: set[str] = set()
    async with admin(system) as broker:
        streams = (await broker.api("STREAM.NAMES"))["streams"]
        for stream in streams:
            for message in await messages(broker, stream):
                found |= search.within(message["hdrs"] + message["data"], f"{stream} {message['subject']}")
    return found


def _traffic(search: Search, recorder: Recorder) -> set[str]:
    seen = recorder.bytes_seen
    assert any(b"/execution/" in data for data in seen), "the recorder saw the task's calls"
    return {hit for data in seen for hit in search.within(data, "traffic")}
