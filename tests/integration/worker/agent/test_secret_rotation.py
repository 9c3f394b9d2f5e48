"""An agent in a process of its own rotates its secret, with a real relay, and is killed at each step."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from edge_schemas.wire import routes
from edge_schemas.wire.workers import Enrollment, SecretKind, WorkerSettings, hash_secret, new_secret
from edge_worker.settings import Settings
from edge_worker.state.state import Identity, StateDir
from support.nats.server import eventually
from support.relay.edge import Edge, Worker, running_edge
from support.worker.agent_process import WITH_FAKE_RUNTIME, agent_environment, agent_process


class Machine:
    """A worker's machine: its state folder, and its agent's processes."""

    def __init__(self, edge: Edge, worker: Worker, folder: Path, runtime: Path) -> None:
        self.edge = edge
        self.worker = worker
        self.folder = folder
        self.settings = Settings(state_dir=folder / "state", runtime_dir=runtime)
        self.state = StateDir(folder / "state")
        self.state.prepare()
        settings = WorkerSettings(version=1, queues=("default",))
        enrollment = Enrollment(worker=worker.name, site="plant", settings=settings)
        url = edge.relays[0].workers_url
        self.state.complete_enrollment(Identity(relay_url=url, secret=worker.secret, enrollment=enrollment))

    @property
    def identity(self) -> Identity:
        identity = self.state.identity()
        assert identity is not None
        return identity

    @asynccontextmanager
    async def agent(self) -> AsyncIterator[asyncio.subprocess.Process]:
        """The agent; killed with SIGKILL at the end."""
        environment = agent_environment(self.settings, EDGE_WORKER_CA_FILE=str(self.edge.ca))
        async with agent_process(WITH_FAKE_RUNTIME, environment, self.folder / "log") as process:
            yield process

    def events(self) -> list[str]:
        lines = (self.folder / "log").read_text().splitlines()
        return [json.loads(line)["event"] for line in lines if line.startswith("{")]

    async def is_valid(self) -> bool:
        return (await self.edge.call("GET", routes.WORKER, self.identity.secret)).status == 200

    async def until_rotated(self, rotation: int) -> None:
        """The agent polls with the new secret, and the older one is refused."""

        async def polled() -> bool:
            credentials = self.edge.relays[0].parts.identity.credentials
            [access] = [one for one in credentials.workers() if one.worker == self.worker.name]
            return (access.rotated, access.valid_hash) == (rotation, hash_secret(self.identity.secret))

        await eventually(polled, timeout_s=30, what=f"rotation {rotation} is complete")
        older = await self.edge.call("GET", routes.WORKER, self.worker.secret)
        assert older.code == "credential_revoked"
        identity = self.identity
        assert (identity.rotation, identity.next_secret, identity.enrollment.worker) == (
            rotation,
            None,
            self.worker.name,
        )

    async def rotate(self) -> None:
        """As an operator asks for it."""
        await self.edge.act_on_worker(self.worker.name, "rotate")


@pytest.fixture
async def edge(tmp_path: Path) -> AsyncIterator[Edge]:
    async with running_edge(tmp_path / "edge") as running:
        yield running


@pytest.fixture
async def machine(edge: Edge, tmp_path: Path) -> AsyncIterator[Machine]:
    with TemporaryDirectory(prefix="er-") as runtime:
        (tmp_path / "worker").mkdir()
        yield Machine(edge, await edge.worker(), tmp_path / "worker", Path(runtime))


async def test_an_agent_rotates_its_secret_while_it_polls(machine: Machine) -> None:
    async with machine.agent() as process:
        await machine.rotate()
        await machine.until_rotated(1)
        await machine.rotate()
        await machine.until_rotated(2)
        assert process.returncode is None
    incarnations = machine.identity
    assert incarnations.enrollment.settings.rotation == 2
    assert "poll_refused" not in machine.events(), "no poll met a refused secret"
    log = (machine.folder / "log").read_text()
    assert machine.identity.secret not in log
    assert machine.worker.secret not in log


@pytest.mark.parametrize("registered", [False, True])
async def test_an_agent_killed_around_the_registration_works_and_completes(machine: Machine, registered: bool) -> None:
    """Its next secret is on disk; the relay has or has not received its hash; the answer never arrived."""
    await machine.rotate()
    secret = new_secret(SecretKind.WORKER)
    asked = machine.identity.enrollment.settings.model_copy(update={"version": 2, "rotation": 1})
    enrollment = machine.identity.enrollment.model_copy(update={"settings": asked})
    before = machine.identity.model_copy(update={"enrollment": enrollment, "next_secret": secret, "next_rotation": 1})
    machine.state.complete_enrollment(before)
    if registered:
        body = {"secret_hash": hash_secret(secret), "rotation": 1}
        reply = await machine.edge.call("POST", routes.WORKER_SECRET, machine.worker.secret, json=body)
        assert reply.status == 204
    assert await machine.is_valid()
    async with machine.agent():
        await machine.until_rotated(1)
    assert machine.identity.secret == secret, "the secret that was made before the kill"


async def test_an_agent_killed_before_the_first_use_works(machine: Machine) -> None:
    """The new secret is its secret on disk, and was never used."""
    await machine.rotate()
    secret = new_secret(SecretKind.WORKER)
    body = {"secret_hash": hash_secret(secret), "rotation": 1}
    assert (await machine.edge.call("POST", routes.WORKER_SECRET, machine.worker.secret, json=body)).status == 204
    machine.state.complete_enrollment(machine.identity.model_copy(update={"secret": secret, "rotation": 1}))
    async with machine.agent():
        await machine.until_rotated(1)


async def test_kills_at_any_moment_leave_a_worker_that_works(machine: Machine) -> None:
    """Killed with SIGKILL as soon as the file of the identity changes, whatever the step."""
    await machine.rotate()
    path = machine.state.path / "worker.json"
    for _ in range(6):
        seen = path.read_bytes()
        async with machine.agent() as process:

            def changed(seen: bytes = seen) -> bool:
                return path.read_bytes() != seen or machine.identity.rotation == 1

            await eventually(changed, timeout_s=30, what="the agent has written its identity")
            process.kill()
        assert await machine.is_valid(), "what is on disk is valid after each kill"
    async with machine.agent():
        await machine.until_rotated(1)
