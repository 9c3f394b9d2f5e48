"""A connection whose server has gone is left without an error: a process must be able to stop while NATS is away."""

import asyncio
from pathlib import Path

import pytest

from edge_broker.connection.broker import Broker
from edge_broker.permissions import READER
from support.nats.server import broker_settings, eventually, running_server


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
