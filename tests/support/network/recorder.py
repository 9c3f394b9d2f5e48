"""Somebody between worker and relay who ends TLS, writes everything down in the clear, and passes it on."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from support.network.certificates import Certificates


@dataclass
class Recorder:
    """What went by.

    Attributes:
        url: What the worker takes for the relay.
        connections: For each connection what went up and what came down.
    """

    url: str
    connections: list[tuple[bytearray, bytearray]] = field(default_factory=list)

    @property
    def bytes_seen(self) -> list[bytes]:
        """Each direction of each connection."""
        return [bytes(direction) for connection in self.connections for direction in connection]


@asynccontextmanager
async def recording(certificates: Certificates, host: str, port: int, ca_file: Path) -> AsyncIterator[Recorder]:
    """Listen on a free port and carry everything to the relay at `host:port`."""
    upstream = ssl.create_default_context(cafile=ca_file)
    recorder = Recorder("")

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(10):
            onward_reader, onward_writer = await asyncio.open_connection(host, port, ssl=upstream)
        up, down = bytearray(), bytearray()
        recorder.connections.append((up, down))
        await asyncio.gather(_pump(reader, onward_writer, up), _pump(onward_reader, writer, down))

    server = await asyncio.start_server(carry, "127.0.0.1", 0, ssl=certificates.server_context())
    recorder.url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield recorder


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, record: bytearray) -> None:
    try:
        while data := await reader.read(65536):
            record += data
            writer.write(data)
            await writer.drain()
    except (OSError, ssl.SSLError):
        pass  # one side broke off; so does the other
    finally:
        writer.transport.abort()
