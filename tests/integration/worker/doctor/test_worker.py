"""The doctor names the fault of a worker that reaches its relay: credential, protocol, queues, runtime, machine."""

import asyncio
import os
import shutil
import stat
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from edge_relay.http.handlers import worker as worker_handler
from edge_relay.serve import serving
from edge_relay.settings import Settings as RelaySettings
from edge_schemas.wire.workers import SecretKind, new_secret
from integration.worker.doctor.conftest import Relay
from support.doctor.examination import COMMAND, Patient, fake_interpreter
from support.nats.server import PASSWORDS, free_port
from support.relay.edge import Worker

pytestmark = pytest.mark.asyncio(loop_scope="session")
FROM_OUTSIDE_IN = [
    "settings.read", "state.folder", "state.agent", "runtime-dir.sockets", "identity.file", "settings.relay",
    "settings.proxy", "settings.trust", "settings.auxiliary", "settings.commands",
    "settings.signing",
    "dns.lookup", "tcp.connect", "tls.chain", "relay.url",
    "clock.skew", "relay.ready", "credential.known", "protocol.served", "queues.allowed", "versions.relay",
    "runtime.python", "runtime.airflow", "runtime.host", "bundles.folders", "bundles.published",
    "machine.user", "machine.disk", "machine.memory", "machine.files",
]  # fmt: skip


def _everything_below(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path): (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"") for path in folder.rglob("*")
    }


async def test_a_worker_in_order_is_not_touched(worker: Patient, relay: Relay) -> None:
    """Beside a running agent: no contact, no file, no other host; and the agent is seen."""
    name = worker.state.identity()
    assert name is not None
    with worker.state.locked():
        before = _everything_below(worker.state.path)
        report = await worker.examined_by(*COMMAND, "--queues", "default")
        assert _everything_below(worker.state.path) == before
    assert list(worker.runtime_dir.iterdir()) == []
    assert await relay.edge.relays[0].parts.workers.get(name.enrollment.worker) is None
    assert report.all("ok") == FROM_OUTSIDE_IN
    assert report.status == 0
    assert f"process {os.getpid()}" in report.of("state.agent")["detail"]
    assert "runs no auxiliary jobs, by its default" in report.of("settings.auxiliary")["detail"]
    assert "serves default" in report.of("queues.allowed")["detail"]
    assert "Airflow 3.3.2, the centre has 3.3.2" in report.of("runtime.airflow")["detail"]


async def test_what_the_owner_allows_besides_tasks(worker: Patient) -> None:
    report = await worker.examined(env={"EDGE_WORKER_AUXILIARY_JOBS": "callback"})
    assert "the kinds callback, by" in (detail := report.of("settings.auxiliary")["detail"])
    assert "EDGE_WORKER_AUXILIARY_JOBS" in detail
    assert "would allow connection_test" in detail


async def test_lines_for_people(worker: Patient) -> None:
    """One line each, with what to do below it."""
    process = await asyncio.create_subprocess_exec(
        *(part for part in COMMAND if part != "--json"),
        "--queues",
        "gpu",
        env=worker.environment,
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    lines = out.decode().splitlines()
    assert process.returncode == 1
    assert len(lines) == len(FROM_OUTSIDE_IN) + 1
    place = next(i for i, line in enumerate(lines) if line.startswith("FAILED     queues        not allowed: gpu"))
    assert lines[place + 1].startswith("           The enrolment token decides it")


async def test_a_machine_before_its_enrolment(patient: Patient, relay: Relay) -> None:
    """All that can be known is told, and that nothing is wrong with it."""
    report = await patient.examined("--relay-url", relay.url, "--ca-file", str(relay.ca))
    _, advice = report.doubt("identity.file")
    assert "edge-worker enroll" in advice
    assert report.of("relay.ready")["status"] == "ok"
    assert report.all("not_tried") == ["credential.known"]
    nowhere = await patient.examined()
    assert nowhere.all("failed") == ["settings.relay"]
    assert "--relay-url" in nowhere.of("settings.relay")["advice"]


# Credential, protocol, queues


async def test_a_revoked_credential(worker: Patient, relay: Relay) -> None:
    known = worker.state.identity()
    assert known is not None
    await relay.edge.act_on_worker(known.enrollment.worker, "revoke")
    detail, advice = (await worker.examined()).fault("credential.known")
    assert "revoked" in detail
    assert "enroll --renew" in advice


async def test_a_credential_that_this_relay_never_gave(worker: Patient, relay: Relay) -> None:
    worker.enrolled(Worker("plant-9", new_secret(SecretKind.WORKER)), relay.url)
    detail, advice = (await worker.examined()).fault("credential.known")
    assert "does not know" in detail
    assert relay.url in advice


async def test_a_queue_that_is_not_allowed(worker: Patient) -> None:
    detail, advice = (await worker.examined("--queues", "default,gpu")).fault("queues.allowed")
    assert detail == "not allowed: gpu; allowed: default"
    assert "enroll-token create --queues" in advice


@pytest.mark.parametrize(("served", "who"), [((2, 3), "Upgrade this agent"), ((0,), "Upgrade the relay")])
async def test_a_protocol_that_the_relay_does_not_serve(
    worker: Patient, monkeypatch: pytest.MonkeyPatch, served: tuple[int, ...], who: str
) -> None:
    monkeypatch.setattr(worker_handler, "SUPPORTED_PROTOCOLS", served)
    _, advice = (await worker.examined()).fault("protocol.served")
    assert advice.startswith(who)


@asynccontextmanager
async def _without_broker(relay: Relay, folder: Path) -> AsyncIterator[str]:
    """A relay whose NATS is away."""
    password = folder / "relay.password"
    password.write_text(PASSWORDS["relay"])
    tls = relay.ca.parent
    settings = RelaySettings(
        host="127.0.0.1",
        port=0,
        operators_port=0,
        tls_cert_file=tls / "relay.pem",
        tls_key_file=tls / "relay.key",
        nats_urls=(f"nats://127.0.0.1:{free_port()}",),
        nats_password_file=password,
    )
    async with serving(settings) as running:
        yield running.workers_url


async def test_a_relay_without_its_broker(patient: Patient, relay: Relay, tmp_path: Path) -> None:
    async with _without_broker(relay, tmp_path) as url:
        report = await patient.examined("--relay-url", url, "--ca-file", str(relay.ca))
    assert report.all("failed") == ["relay.ready"]
    assert "message broker" in report.of("relay.ready")["detail"]
    assert "edge-relay doctor" in report.of("relay.ready")["advice"]


# Settings and folders


async def test_a_setting_that_cannot_be(patient: Patient) -> None:
    patient.secrets.append("not-to-be-shown")
    report = await patient.examined(env={"EDGE_WORKER_PROXY_URL": "x", "EDGE_WORKER_SLOTS": "not-to-be-shown"})
    detail, _ = report.fault("settings.read")
    assert "EDGE_WORKER_SLOTS" in detail


async def test_a_variable_that_is_no_setting(worker: Patient) -> None:
    detail, advice = (await worker.examined(env={"EDGE_WORKER_PROXY": "http://p:1"})).doubt("settings.read")
    assert "EDGE_WORKER_PROXY" in detail
    assert "EDGE_WORKER_PROXY_URL" in advice


def _as_somebody_who_obeys_modes() -> list[str]:
    """Root may write anywhere, unless that right is taken away."""
    if os.geteuid() != 0:
        return []
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        pytest.skip("needs setpriv (util-linux), or a user who is not root")
    return [setpriv, "--bounding-set=-dac_override,-dac_read_search", "--"]


async def test_a_state_folder_that_cannot_be_written(worker: Patient) -> None:
    worker.state.path.chmod(0o500)
    report = await worker.examined_by(*_as_somebody_who_obeys_modes(), *COMMAND)
    worker.state.path.chmod(0o700)
    detail, advice = report.fault("state.folder")
    assert f"{worker.state.path} cannot be written: Permission denied" in detail
    assert "--state-dir" in advice


async def test_a_state_folder_whose_place_is_a_file(patient: Patient) -> None:
    (patient.folder / "file").write_text("")
    report = await patient.examined("--state-dir", str(patient.folder / "file" / "state"))
    assert report.all("failed")[0] == "state.folder"


async def test_a_runtime_folder_that_others_may_enter(worker: Patient) -> None:
    worker.runtime_dir.chmod(0o777)
    detail, _ = (await worker.examined()).fault("runtime-dir.sockets")
    assert "mode 0700" in detail
    assert stat.S_IMODE(worker.runtime_dir.stat().st_mode) == 0o777


# Runtime and machine


async def test_a_machine_with_many_faults_of_its_own(worker: Patient) -> None:
    """Each is told, for none hides another; the way to the relay is good."""
    fake_interpreter(worker.folder / "python", None)
    (worker.folder / "empty").mkdir()
    bundles = '{"gone": "/no/such/folder", "empty": "%s"}' % (worker.folder / "empty")
    reserve = str(1 << 60)
    limit = (f"ulimit -n 60; exec {sys.executable} -m edge_worker doctor --json --bundles '{bundles}'"
             f" --disk-reserve-bytes {reserve}")  # fmt: skip
    report = await worker.examined_by("/bin/sh", "-c", limit)
    assert report.all("failed") == [
        "runtime.airflow", "bundles.folders", "bundles.folders", "machine.disk", "machine.files",
    ]  # fmt: skip
    assert report.of("queues.allowed")["status"] == "ok"
    assert "has no Airflow" in report.of("runtime.airflow")["detail"]
    assert "edge-worker runtime install" in report.of("runtime.airflow")["advice"]
    gone, empty = (one for one in report.findings if one["check"] == "bundles.folders")
    assert "/no/such/folder is not there" in gone["detail"]
    assert "is empty" in empty["detail"]
    assert "accepts no jobs" in report.of("machine.disk")["advice"]
    assert "LimitNOFILE" in report.of("machine.files")["advice"]


async def test_a_runtime_newer_than_the_centre(worker: Patient) -> None:
    fake_interpreter(worker.folder / "python", "3.4.0")
    detail, advice = (await worker.examined()).fault("runtime.airflow")
    assert "3.4.0" in detail
    assert "3.3.2" in detail
    assert "edge-worker runtime install" in advice


@pytest.mark.parametrize("how", ["missing", "not executable", "broken"])
async def test_a_runtime_that_does_not_start(worker: Patient, how: str) -> None:
    python = worker.folder / "python"
    if how == "missing":
        python.unlink()
    elif how == "not executable":
        python.chmod(0o600)
    else:
        python.write_text("#!/bin/sh\necho 'no libpython3.12.so' >&2\nexit 127\n")
    detail, advice = (await worker.examined()).fault("runtime.python")
    assert {"missing": "No such file", "not executable": "Permission denied", "broken": "no libpython"}[how] in detail
    assert "--runtime-python" in advice


@pytest.mark.soak
async def test_a_task_host_of_the_real_runtime(worker: Patient) -> None:
    report = await worker.examined("--runtime-python", sys.executable)
    assert report.of("runtime.airflow")["status"] == "ok"
    assert report.of("runtime.host")["detail"].startswith("a task host starts in it, with Airflow 3.")
