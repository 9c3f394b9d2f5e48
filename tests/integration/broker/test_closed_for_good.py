"""A server that closes each connection for good, as it does when an account is over its limits, or ends its start."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from structlog.testing import capture_logs

from edge_broker.connection.broker import Broker
from edge_broker.connection.settings import BrokerSettings
from support.nats.server import eventually

INFO = b'INFO {"server_id":"x","version":"2.11.0","proto":1,"headers":true,"max_payload":1048576}\r\n'
LIMIT = b"-ERR 'maximum account active connections exceeded'\r\n"


class Refusing:
    """Takes connections and, while it refuses, ends each one after its first subscription.

    Attributes:
        greets: Whether it starts a connection; else it refuses each at its start, and waits for the client to close it.
        connections: How many it has accepted.
        stand: Those that no client has closed.
    """

    def __init__(self) -> None:
        self.refuses = True
        self.greets = True
        self.url = ""
        self.connections = 0
        self.stand: set[asyncio.StreamWriter] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        self.connections += 1
        self.stand.add(writer)
        writer.write(INFO)
        try:
            while line := await reader.readline():
                if line.startswith(b"PING"):
                    writer.write(b"PONG\r\n" if self.greets else LIMIT)
                if line.startswith(b"SUB") and self.refuses:
                    writer.write(LIMIT)
        except ConnectionError:
            pass  # the client has ended it at once
        finally:
            self.stand.discard(writer)
            writer.close()


@pytest.fixture
async def server() -> AsyncIterator[Refusing]:
    refusing = Refusing()
    listening = await asyncio.start_server(refusing.serve, "127.0.0.1", 0)
    refusing.url = f"nats://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    async with listening:
        yield refusing


async def test_it_is_asked_again_ever_later_and_taken_up_once_it_allows(server: Refusing) -> None:
    """Without a pause a relay would open hundreds of connections a second, and log each."""
    loop = asyncio.get_running_loop()
    with capture_logs() as events:
        async with Broker(BrokerSettings((server.url,), "relay", "x")) as broker:
            moments: list[float] = []

            def closed() -> bool:
                count = sum(event["event"] == "broker_connection_replaced" for event in events)
                moments.extend([loop.time()] * (count - len(moments)))
                return bool(count >= 5)

            await eventually(closed)
            assert moments[4] - moments[0] > 0.3, "four growing pauses, each at least half of 50, 100, 200 and 400 ms"
            server.refuses = False

            def stands() -> bool:
                return broker.connected

            await eventually(stands)


async def test_attempts_to_reconnect_that_fail_leave_no_connection(server: Refusing) -> None:
    """A relay reconnects five times a second; nats-py keeps the connection of each attempt that fails at its start."""
    server.refuses = False
    async with Broker(BrokerSettings((server.url,), "relay", "x")) as broker:
        await broker.wait_connected(10)
        server.greets = False
        [first] = server.stand
        first.close()
        await eventually(lambda: server.connections >= 4)
        assert len(server.stand) <= 2, "that of this attempt, and of the last one if its end is on the way"
        server.greets = True
        await broker.wait_connected(10)
        await eventually(lambda: len(server.stand) == 1)
