"""One healthy centre for all tests of doctors, which break one thing at a time and repair it again."""

import asyncio
import contextlib
import io
import json
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from edge_bridge.keeper.service import Keeper
from edge_broker.bucket import Bucket
from edge_broker.connection.broker import Broker
from edge_broker.layout import ensure_consumer
from edge_broker.permissions import ADMIN, RELAY
from edge_broker.subjects import WORKERS_BUCKET
from edge_relay import cli
from edge_relay.identity.enrollment import EnrollmentStore
from edge_relay.serve import serving
from edge_relay.settings import Settings
from edge_relay.standalone import tls
from edge_relay.standalone.nats_server import NatsServer
from edge_schemas.wire.jobs import JobKind
from edge_schemas.wire.worker_entry import WorkerEntry
from edge_schemas.wire.workers import EnrollRequest, EnrollTokenRequest, SecretKind, hash_secret, new_secret
from edge_service.findings import Status
from support.airflow.keeper import KEY, keeper_settings, poll, running_keeper
from support.airflow.real_airflow import RealAirflow
from support.nats.server import PASSWORDS, connected, eventually, running_server

QUEUE = "plant"
Findings = list[dict[str, str]]


@dataclass(frozen=True)
class Centre:
    """What is up, and with which options `edge-relay doctor` finds it.

    Attributes:
        options: Of a doctor that finds nothing to complain of.
    """

    server: NatsServer
    admin: Broker
    keeper: Keeper
    folder: Path
    options: dict[str, str]

    def file(self, name: str, content: str, *, mode: int = 0o600) -> str:
        """A file to name in an option."""
        path = self.folder / name
        path.write_text(content)
        path.chmod(mode)
        return str(path)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def centre(airflow: RealAirflow, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Centre]:
    """NATS, a keeper, a relay, a worker that polled, and a queue that was used."""
    folder = tmp_path_factory.mktemp("centre")
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(running_server(folder / "nats"))
        admin = await stack.enter_async_context(connected(server, ADMIN))
        await ensure_consumer(admin, None, QUEUE, JobKind.TASK)
        keeper = await stack.enter_async_context(running_keeper(keeper_settings(server, airflow)))
        await _enrol(admin)
        options = _options(folder, server, keeper)
        relay = await stack.enter_async_context(serving(_settings(options)))
        await relay.parts.broker.wait_connected(10)
        options["--port"] = relay.workers_url.rpartition(":")[2]
        options["--operators-port"] = relay.operators_url.rpartition(":")[2]
        options["--public-url"] = f"https://localhost:{options['--port']}"
        await eventually(lambda: keeper.health()["contact_possible"], what="the keeper hears the relay")
        await eventually(relay.parts.identity.credentials.complete.is_set, what="the relay is ready")
        yield Centre(server, admin, keeper, folder, options)


def _options(folder: Path, server: NatsServer, keeper: Keeper) -> dict[str, str]:
    files = tls.ensure(folder / "tls", ["127.0.0.1", "localhost"], now=datetime.now(UTC))
    secrets = {"relay.password": PASSWORDS[RELAY], "gate.secret": KEY.decode(), "admin.password": PASSWORDS[ADMIN]}
    for name, content in secrets.items():
        (folder / name).write_text(content)
        (folder / name).chmod(0o600)
    return {
        "--host": "127.0.0.1",
        "--port": "0",
        "--operators-port": "0",
        "--tls-cert-file": str(files.cert),
        "--tls-key-file": str(files.key),
        "--ca-file": str(files.ca_cert),
        "--nats-urls": server.url,
        "--nats-password-file": str(folder / "relay.password"),
        "--gate-urls": f"http://127.0.0.1:{keeper.port}",
        "--gate-key-file": str(folder / "gate.secret"),
    }


def _settings(options: dict[str, str]) -> Settings:
    given: dict[str, Any] = {name[2:].replace("-", "_"): value for name, value in options.items()}
    return Settings(**{name: value for name, value in given.items() if name in Settings.model_fields})


async def _enrol(admin: Broker) -> None:
    """A worker that has polled once."""
    now = datetime.now(UTC)
    access = EnrollmentStore(admin)
    token = await access.create_token(EnrollTokenRequest(queues=(QUEUE,), site="plant"), now=now)
    request = EnrollRequest(protocol=1, secret_hash=hash_secret(new_secret(SecretKind.WORKER)))
    worker, _ = await access.enroll(token.token, request, now=now)
    await poll(admin, worker=worker.worker)
    bucket = Bucket(admin, WORKERS_BUCKET)
    stored = await bucket.get(worker.worker)
    entry = WorkerEntry.model_validate_json(stored.value or b"")
    entry = entry.model_copy(update={"queues": (QUEUE,)})
    await bucket.put(worker.worker, entry.model_dump_json(exclude_none=True).encode(), revision=stored.revision)


async def relay_doctor(options: dict[str, str]) -> Findings:
    """What `edge-relay doctor --json` tells, from the command line inwards in this process."""
    words = ["doctor", "--json", *(word for pair in options.items() for word in pair)]
    out = io.StringIO()

    def run() -> int:
        with contextlib.redirect_stdout(out):
            try:
                return cli.main(words)
            except SystemExit as end:
                return int(str(end.code))

    status = await asyncio.to_thread(run)
    return checked(status, out.getvalue())


async def process(*command: str) -> tuple[int, str, str]:
    """A command's exit status, output and errors, as a process of its own."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await child.communicate()
    assert child.returncode is not None
    return child.returncode, out.decode(), err.decode()


async def relay_doctor_process(options: dict[str, str]) -> Findings:
    """The same as a process of its own."""
    words = [word for pair in options.items() for word in pair]
    status, out, err = await process("edge_relay", "doctor", "--json", *words)
    assert not err, err
    return checked(status, out)


def checked(status: int, out: str) -> Findings:
    """The findings, after a look at the exit status, and that no secret is in them."""
    findings: Findings = json.loads(out)
    assert status == int(any(one["status"] == Status.FAILED for one in findings)), (status, findings)
    for secret in (*PASSWORDS.values(), KEY.decode()):
        assert secret not in out
    for one in findings:
        assert one["detail"], one
        assert bool(one["advice"]) is (one["status"] in {Status.FAILED, Status.WARNING}), one
    return findings


def names_only(findings: Findings, check: str, status: Status, advice: str, detail: str = "") -> None:
    """This one check complains, in these words; whatever stands before it is fine, and nothing behind it fails."""
    bad = [one for one in findings if one["status"] in {Status.FAILED, Status.WARNING}]
    assert {(one["check"], one["status"]) for one in bad} == {(check, status)}, bad
    assert advice in bad[0]["advice"], bad
    assert detail in bad[0]["detail"], bad
    before = findings[: findings.index(bad[0])]
    assert {one["status"] for one in before} <= {Status.OK}, before


def not_tried(findings: Findings) -> set[str]:
    """Checks that made no sense because of another one."""
    return {one["check"] for one in findings if one["status"] == Status.NOT_TRIED}
