"""A real nats-server for one test, with the users and streams of an installation."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar, overload

from edge_broker import layout, permissions
from edge_broker.connection.broker import Broker
from edge_broker.connection.settings import BrokerSettings
from edge_relay.standalone.nats_server import NatsServer, find_binary
from local.system.ports import choose_port

T = TypeVar("T")
PASSWORDS = {role: f"test-password-of-{role}" for role in permissions.ROLES}


def free_port() -> int:
    """A free TCP port on loopback that this process has not used before."""
    return choose_port()


def broker_settings(server: NatsServer, role: str) -> BrokerSettings:
    """How a component of this role reaches the server."""
    return BrokerSettings((server.url,), role, PASSWORDS[role])


@asynccontextmanager
async def running_server(directory: Path) -> AsyncIterator[NatsServer]:
    """A server with the layout applied; killed at the end."""
    server = NatsServer(find_binary(), directory, PASSWORDS, port=free_port())
    await server.start()
    try:
        async with connected(server, permissions.ADMIN) as admin:
            await layout.apply(admin, layout.LayoutSettings())
        yield server
    finally:
        await server.stop(kill=True)


@asynccontextmanager
async def connected(server: NatsServer, role: str) -> AsyncIterator[Broker]:
    """A connection with the rights of a role."""
    async with Broker(broker_settings(server, role)) as broker:
        await broker.wait_connected(10)
        yield broker


@overload
async def eventually(check: Callable[[], Awaitable[T]], *, timeout_s: float = 10.0, what: str = "") -> T: ...


@overload
async def eventually(check: Callable[[], T], *, timeout_s: float = 10.0, what: str = "") -> T: ...


async def eventually(check: Callable[[], Any], *, timeout_s: float = 10.0, what: str = "") -> Any:
    """Wait until `check` answers something true and return it; asked every 20 ms."""
    deadline = time.monotonic() + timeout_s
    while True:
        answer = check()
        value = await answer if isinstance(answer, Awaitable) else answer
        if value:
            return value
        assert time.monotonic() < deadline, f"did not happen within {timeout_s:g} s: {what or check}"
        await asyncio.sleep(0.02)
