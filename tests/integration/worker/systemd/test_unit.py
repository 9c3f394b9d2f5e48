"""The unit file: systemd takes every line of it, and under a real systemd no end of the agent is the end of a task."""

import asyncio
import json
import os
import re
import shutil
import subprocess
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import pytest

from edge_schemas.life.model import JobState
from edge_schemas.wire.jobs import Job
from support.airflow.api.execution_api import ExecutionApi
from support.airflow.sdk_jobs import sdk_job, ti_of
from support.relay.fake_relay import ENROLL_TOKEN, FakeRelay, SeenCall, execution_answer

ROOT = Path(__file__).parents[4]
UNIT = ROOT / "edge_worker" / "systemd" / "edge-worker.service"
DAGS = ROOT / "tests" / "integration" / "task_host" / "dags"
BASE_IMAGE = os.environ.get("EDGE_RELAY_TEST_PYTHON_IMAGE", "python:3.12-slim")

_RUNTIME = tuple(
    f"{name}=={version(name)}"
    for name in ("apache-airflow-core", "apache-airflow-task-sdk", "apache-airflow-providers-standard")
)
DOCKERFILE = f"""
FROM {BASE_IMAGE}
RUN apt-get update && apt-get install -y --no-install-recommends systemd systemd-sysv && rm -rf /var/lib/apt/lists/*
RUN useradd --system --home-dir /var/lib/edge-worker edge-worker && mkdir -p /etc/edge-worker
RUN python3 -m venv /opt/airflow && /opt/airflow/bin/pip install -q {" ".join(_RUNTIME)}
COPY schemas /src/schemas
COPY edge_worker /src/edge_worker
RUN python3 -m venv /opt/edge-worker && /opt/edge-worker/bin/pip install -q /src/schemas /src/edge_worker
COPY dags /srv/dags
COPY edge-worker.service /etc/systemd/system/
STOPSIGNAL SIGRTMIN+3
# As a machine's own systemd finds it; without, credentials are mounted where no service sees them.
CMD ["/bin/sh", "-c", "mount --make-rshared / && exec /sbin/init"]
"""


def test_systemd_understands_every_line_of_the_unit(tmp_path: Path) -> None:
    """A key or value that it does not know is only a line on its standard error."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("there is no systemd-analyze on this machine")
    copy = tmp_path / UNIT.name
    # The program is not installed here; everything else is as it is.
    copy.write_text(re.sub(r"(?m)^ExecStart=\S+", "ExecStart=/bin/true", UNIT.read_text()))
    done = subprocess.run(["systemd-analyze", "verify", copy], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_paths_of_unit_and_settings_agree() -> None:
    text = UNIT.read_text()
    assert "StateDirectory=edge-worker" in text
    assert "EDGE_WORKER_STATE_DIR=/var/lib/edge-worker" in text
    assert "EDGE_WORKER_RUNTIME_DIR=/run/edge-worker" in text
    assert "KillMode=process" in text


@dataclass
class Machine:
    """A container whose first process is systemd."""

    name: str

    async def sh(self, command: str) -> str:
        """Run a command in it; its output."""
        return await _run("docker", "exec", self.name, "sh", "-c", command)

    async def show(self, what: str) -> str:
        """A property of the unit."""
        return await self.sh(f"systemctl show -p {what} --value edge-worker")

    async def until(self, command: str) -> None:
        """Wait until a command succeeds."""
        async with asyncio.timeout(60):
            while True:
                try:
                    await self.sh(command)
                except subprocess.CalledProcessError:
                    await asyncio.sleep(0.2)
                else:
                    return


async def _run(*command: str) -> str:
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = await process.communicate()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command, out, err)
    return out.decode().strip()


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> str:
    if (
        shutil.which("docker") is None
        or subprocess.run(["docker", "info"], capture_output=True, check=False).returncode
    ):
        pytest.skip("there is no Docker engine on this machine")
    context = tmp_path_factory.mktemp("image")
    for part in ("schemas", "edge_worker"):
        shutil.copytree(ROOT / part, context / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(DAGS, context / "dags", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(UNIT, context)
    (context / "Dockerfile").write_text(DOCKERFILE)
    tag = "edge-worker-systemd-test"
    subprocess.run(["docker", "build", "-q", "-t", tag, str(context)], check=True, timeout=900, capture_output=True)
    return tag


def _run_options() -> Iterator[str]:
    """What systemd needs of a container, by the machine's kind of control groups."""
    yield from ("--tmpfs", "/run", "--tmpfs", "/run/lock", "--tmpfs", "/tmp", "-e", "container=docker")
    if Path("/sys/fs/cgroup/cgroup.controllers").exists():
        yield from ("--privileged", "--cgroupns", "private")
    else:
        for capability in ("SYS_ADMIN", "SYS_PTRACE", "DAC_READ_SEARCH"):
            yield from ("--cap-add", capability)
        yield from ("--security-opt", "seccomp=unconfined", "--cgroupns", "host")
        yield from ("-v", "/sys/fs/cgroup:/sys/fs/cgroup:ro", "-v", "/sys/fs/cgroup/systemd:/sys/fs/cgroup/systemd:rw")


@pytest.fixture
async def relay() -> AsyncIterator[FakeRelay]:
    fake = FakeRelay()
    await fake.start()
    yield fake
    await fake.stop()


@pytest.fixture
async def machine(image: str, relay: FakeRelay) -> AsyncIterator[Machine]:
    """A machine with the unit enabled and a token, not yet started."""
    name = f"edge-worker-{uuid.uuid4().hex[:8]}"
    await _run("docker", "run", "-d", "--name", name, "--network", "host", *_run_options(), image)
    machine = Machine(name)
    environment = {
        "EDGE_WORKER_RELAY_URL": relay.url,
        "EDGE_WORKER_RUNTIME_PYTHON": "/opt/airflow/bin/python",
        "EDGE_WORKER_BUNDLES": json.dumps({"dags": "/srv/dags"}),
        "EDGE_WORKER_SLOTS": "2",
    }
    lines = "\n".join(f"{name}='{value}'" for name, value in environment.items())
    try:
        await machine.until("systemctl is-system-running | grep -qE 'running|degraded'")
        await machine.sh(f"cat > /etc/edge-worker/environment <<'X'\n{lines}\nX")
        await machine.sh(f"umask 077; echo {ENROLL_TOKEN} > /etc/edge-worker/enroll-token")
        yield machine
    except BaseException:
        print(await machine.sh("journalctl -u edge-worker --no-pager | tail -50"))  # noqa: T201 (why it failed)
        raise
    finally:
        await _run("docker", "rm", "-f", name)


@pytest.mark.soak
@pytest.mark.timeout(1200)
async def test_no_end_of_the_agent_is_the_end_of_a_task(machine: Machine, relay: FakeRelay) -> None:
    """Killed, restarted, stopped and started again; drained on request it stays away."""
    api = ExecutionApi(Path("unused"), variables={"flag": "/tmp/flag"})

    async def answer(call: SeenCall) -> object:
        return execution_answer(*api.answer(call.job, call.method, call.raw_path, json.loads(call.body or b"null")))

    # The answer is any response, which the attribute's type does not name.
    relay.execution = answer  # type: ignore[assignment]
    await machine.sh("systemctl enable --now edge-worker")
    job = sdk_job("tick")
    await relay.publish(job)
    await relay.until(lambda: b"tick 1" in relay.logs.get(job.id, b""))
    supervisor = await _supervisor(machine, job)
    # Enrolled: the token is spent, and its file goes.
    await machine.sh("rm /etc/edge-worker/enroll-token")

    await _after_next_start(machine, relay, "kill -9 $(systemctl show -p MainPID --value edge-worker)")
    assert await machine.show("NRestarts") == "1"
    await _after_next_start(machine, relay, "systemctl restart edge-worker")
    await machine.sh("systemctl stop edge-worker")
    assert await _supervisor(machine, job) == supervisor
    await _after_next_start(machine, relay, "systemctl start edge-worker")
    assert await _supervisor(machine, job) == supervisor

    await machine.sh("touch /tmp/flag")
    await relay.until(lambda: relay.state(job.id) is JobState.ENDED)
    outcome = relay.records[job.id].outcome
    assert outcome is not None
    assert outcome.exit_code == 0
    assert api.states == {job.id: "success"}
    await relay.until(lambda: b"tick 2" in relay.logs[job.id])
    assert sum(call.raw_path == f"task-instances/{ti_of(job)}/run" for call in relay.calls) == 1

    await machine.sh("systemctl kill --kill-whom=main -s TERM edge-worker")
    await machine.until("systemctl show -p ActiveState edge-worker | grep -q inactive")
    assert await machine.show("Result") == "success"


async def _after_next_start(machine: Machine, relay: FakeRelay, command: str) -> None:
    """A new agent polls after the command."""
    before = relay.polls[-1].incarnation
    await machine.sh(command)
    await relay.until(lambda: relay.polls[-1].incarnation > before)


async def _supervisor(machine: Machine, job: Job) -> str:
    """Pid and start of the process that watches over a task; fails if it does not live."""
    taken = json.loads(await machine.sh(f"cat /var/lib/edge-worker/jobs/{job.id}/pid.json"))
    await machine.sh(f"kill -0 {taken['pid']}")
    return f"{taken['pid']} {taken['start']}"
