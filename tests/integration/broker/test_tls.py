"""What a connection to NATS does where no TLS is offered although it was asked for."""

import asyncio

from edge_broker.connection.broker import Broker
from edge_broker.connection.settings import BrokerSettings
from edge_broker.permissions import RELAY

INFO = b'INFO {"server_id":"S","version":"2.11.0","auth_required":true,"max_payload":1048576}\r\n'


async def test_no_password_goes_in_clear_to_a_server_of_a_tls_address() -> None:
    heard: asyncio.Queue[bytes] = asyncio.Queue()

    async def without_tls(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(INFO)
        heard.put_nowait(await reader.read())
        writer.close()

    server = await asyncio.start_server(without_tls, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, Broker(BrokerSettings((f"tls://127.0.0.1:{port}",), RELAY, "secret")) as broker:
        async with asyncio.timeout(10):
            said = [await heard.get(), await heard.get()]
        assert said == [b"", b""]  # it hung up without a word, and tried again
        assert not broker.connected
