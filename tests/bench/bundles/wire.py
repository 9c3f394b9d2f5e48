"""A way to a relay on which bytes are counted, with a delay and a rate."""

import asyncio

from typing_extensions import override

from support.network.link import Connection, Link

CHUNK_BYTES = 16 * 1024
CHUNKS_ON_THE_WAY = 32
"""Of each direction: more than a link of 10 Mbit/s and 100 ms holds."""


class Wire(Link):
    """A link as a line to a site is.

    Attributes:
        delay_s: In each direction: half of a round trip.
        bytes_per_s: In each direction, of all connections together; None for as fast as it goes.
        passed: Bytes in both directions.
    """

    delay_s = 0.0
    bytes_per_s: float | None = None
    passed = 0

    @override
    async def _serve(self, connection: Connection) -> None:
        reader, writer = await self._connect(connection)
        await asyncio.gather(
            self._pump(connection, connection.reader, writer), self._pump(connection, reader, connection.writer)
        )

    @override
    async def _pump(self, connection: Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One direction; there is one connection at a time, so each has the rate for itself."""
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(CHUNKS_ON_THE_WAY)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._deliver(under_way, writer))
            clock, free_at = asyncio.get_running_loop().time, 0.0
            while data := await reader.read(CHUNK_BYTES):
                self.passed += len(data)
                free_at = max(free_at, clock()) + (len(data) / self.bytes_per_s if self.bytes_per_s else 0.0)
                await under_way.put((free_at + self.delay_s, data))
            await under_way.put((free_at + self.delay_s, b""))

    async def _deliver(self, under_way: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            due, data = await under_way.get()
            if (wait := due - clock()) > 0:
                await asyncio.sleep(wait)
            if not data:
                if writer.can_write_eof():
                    writer.write_eof()
                return
            writer.write(data)
            await writer.drain()
