"""A connection whose server has gone is left without an error: a process must be able to stop while NATS is away."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edge_broker.connection.broker import Broker
from edge_broker.permissions import READER
from edge_service.task_cleanup import cancel_and_wait
from support.nats.server import broker_settings, eventually, running_server
from support.network.link import Cut, Link


@pytest.mark.parametrize("noticed", [True, False])
async def test_leaving_while_the_server_is_away(tmp_path: Path, *, noticed: bool) -> None:
    async with running_server(tmp_path) as server, asyncio.timeout(40):
        for _ in range(5):
            async with Broker(broker_settings(server, READER)) as broker:
                await broker.wait_connected(10)
                await server.stop(kill=True)
                if noticed:
                    await eventually(lambda: not broker.connected)  # asked within the turn
            await server.start()


async def test_a_socket_is_closed_though_the_leaving_is_cancelled(tmp_path: Path) -> None:
    """The executor's thread is cancelled every 0.2 s until it ends, and a silent server takes longer to leave."""
    sockets: asyncio.Queue[Any] = asyncio.Queue()

    async def hold(url: str) -> None:
        async with Broker(replace(broker_settings(server, READER), urls=(url,))) as broker:
            await broker.wait_connected(10)
            client: Any = broker._supervisor.client
            sockets.put_nowait(client._transport._io_writer.get_extra_info("socket"))
            await asyncio.Event().wait()

    async with running_server(tmp_path) as server, Link.to(server.url) as link:
        holding = asyncio.create_task(hold(f"nats://127.0.0.1:{link.port}"))
        socket = await sockets.get()
        await link.cut(Cut.BLACK_HOLE)
        async with asyncio.timeout(3):
            await cancel_and_wait([holding])
        await eventually(lambda: socket.fileno() == -1)
        await eventually(lambda: not _tasks_of_the_client())


def _tasks_of_the_client() -> list[asyncio.Task[Any]]:
    """What nats-py started; in an executor or a relay that goes on, each would last as long as the process."""
    coroutines: dict[asyncio.Task[Any], Any] = {task: task.get_coro() for task in asyncio.all_tasks()}
    return [task for task, coroutine in coroutines.items() if "/nats/aio/" in coroutine.cr_code.co_filename]
