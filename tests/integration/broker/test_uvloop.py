"""What a broker does on uvloop, which the relay uses and which differs from asyncio where a connection is closed."""

import asyncio
from functools import partial
from pathlib import Path
from typing import Any

import uvloop

from edge_broker.connection.broker import Broker
from edge_broker.permissions import ADMIN
from support.nats.server import connected, eventually, running_server


async def _write_to_closed_connections(directory: Path) -> None:
    async with running_server(directory) as server, connected(server, ADMIN) as broker:
        for number in range(3):
            await broker.wait_connected(5)
            client: Any = broker._supervisor.require_client()
            client._transport._io_writer.transport.abort()
            for _ in range(20):
                await broker.publish("edge.notices.worker.w")
                await asyncio.sleep(0)
            await eventually(partial(_has_reconnected, broker, number), what="a new connection")
        await broker.wait_connected(5)
        assert (await broker.api("STREAM.INFO.EDGE_JOBS"))["config"]["name"] == "EDGE_JOBS"


def _has_reconnected(broker: Broker, number: int) -> bool:
    return broker.reconnects > number


def test_a_write_to_a_closed_connection_leads_to_a_new_one(tmp_path: Path) -> None:
    """nats-py takes uvloop's error for the end of the event loop. Each later call then failed with that error."""
    uvloop.run(_write_to_closed_connections(tmp_path))
