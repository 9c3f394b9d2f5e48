"""A whole agent in the test's own event loop, with a fake runtime."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from edge_schemas.wire.workers import Enrollment, SecretKind, WorkerSettings, hash_secret, new_secret
from edge_worker.agent.shutdown import Shutdown, ShutdownStage
from edge_worker.agent.worker import Worker
from edge_worker.relay.client import RelayClient
from edge_worker.settings import Settings
from edge_worker.state.runtime_dir import SOCKET_NAME
from edge_worker.state.state import Identity, StateDir
from support.relay.fake_relay import FakeRelay
from support.worker.fake_runtime import FakeRuntime

NAME = "worker-1"


@dataclass
class Agent:
    """A running agent.

    Attributes:
        code: Its exit status, once it has ended.
    """

    settings: Settings
    state: StateDir
    runtime: FakeRuntime
    shutdown: Shutdown
    code: int | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def socket(self) -> Path:
        """Of the local gateway."""
        assert self.settings.runtime_dir is not None
        return self.settings.runtime_dir / SOCKET_NAME

    async def until_ended(self) -> None:
        """It has left by itself."""
        await self.ended.wait()

    async def until_log(self, job_id: str, text: bytes) -> None:
        """The task has printed something, be it uploaded or not."""
        log = self.state.job_dir(job_id).log
        await eventually(lambda: log.exists() and text in log.read_bytes())

    def drain(self) -> None:
        """As the first signal does."""
        self.shutdown.reach(ShutdownStage.DRAIN, "the test says so")


async def eventually(condition: Callable[[], bool]) -> None:
    """Waits for a condition that sets no event, for example a line in a file."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - no event is set for it
            await asyncio.sleep(0.01)


def open_client(relay: FakeRelay) -> RelayClient:
    """A client with a credential that the relay knows."""
    tls = ssl.create_default_context()
    return RelayClient(relay.url, make_identity(relay).secret, tls=tls, proxy=None)


def make_identity(relay: FakeRelay) -> Identity:
    """A worker that the relay knows."""
    secret = new_secret(SecretKind.WORKER)
    relay.workers[hash_secret(secret)] = NAME
    settings = WorkerSettings(version=0, queues=relay.queues)
    return Identity(relay_url=relay.url, secret=secret, enrollment=Enrollment(worker=NAME, site="s", settings=settings))


@asynccontextmanager
async def running_agent(relay: FakeRelay, settings: Settings) -> AsyncIterator[Agent]:
    """An agent that is drained, within a few seconds, when the test leaves."""
    state = StateDir(settings.state_dir)
    state.prepare()
    identity = state.identity() or make_identity(relay)
    state.complete_enrollment(identity)
    assert settings.runtime_dir is not None
    runtime = FakeRuntime(settings.runtime_dir / SOCKET_NAME, settings.state_dir)
    agent = Agent(settings, state, runtime, Shutdown())

    async def run() -> None:
        with state.locked():
            agent.code = await Worker(settings, state, identity, runtime=runtime, shutdown=agent.shutdown).run()
        agent.ended.set()

    async with asyncio.TaskGroup() as group:
        task = group.create_task(run())
        try:
            yield agent
            agent.shutdown.reach(ShutdownStage.DRAIN, "the test is over")
            async with asyncio.timeout(20):
                await task
        finally:
            agent.shutdown.reach(ShutdownStage.LEAVE, "the test has failed")
