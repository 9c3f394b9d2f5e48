"""A way from one program to another that a test can cut: a TCP proxy on loopback.

`Link` knows bytes only, so it stands before a TLS listener or NATS as well. `support.network.http_link` sees requests.

    async with Link.to(relay_url) as link:
        await link.cut(Cut.BLACK_HOLE, lasts_s=3)
"""

import asyncio
import contextlib
import re
import socket
import ssl
import struct
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Self
from urllib.parse import urlsplit

from typing_extensions import override

CHUNK_BYTES = 64 * 1024
_SLOW_BUFFER_BYTES = 16 * 1024
_RESET = struct.pack("ii", 1, 0)


class Cut(Enum):
    """What is wrong with the whole link."""

    REFUSE = auto()
    """Nobody listens, and what stood is closed."""
    BLACK_HOLE = auto()
    """Connections stand and can be made, and no byte comes through, nor the end of a connection."""
    RESET = auto()
    """Connections, old and new, are reset."""


@dataclass
class Seen:
    """What went through.

    Attributes:
        connections: Accepted ones.
        requests: That were delivered, by `METHOD /path` without the query, repeats included.
    """

    connections: int = 0
    requests: Counter[str] = field(default_factory=Counter)

    def count(self, method: str, path: str) -> int:
        """Delivered requests with this method and a path that matches."""
        pattern = re.compile(path)
        return sum(
            number
            for request, number in self.requests.items()
            if request.startswith(f"{method} ") and pattern.search(request)
        )


class Connection:
    """One connection through the link, both its ends."""

    def __init__(self, accepted: socket.socket, *, is_dead: bool) -> None:
        self.is_dead = is_dead
        self._is_closed = False
        self._accepted = accepted
        self._writers: list[asyncio.StreamWriter] = []

    async def open(self) -> None:
        """Make the client's end readable.

        Raises:
            ConnectionAbortedError: The link was cut meanwhile.
        """
        self.reader, self.writer = await asyncio.open_connection(sock=self._accepted, limit=CHUNK_BYTES)
        self.add(self.writer)
        if self._is_closed:
            raise ConnectionAbortedError

    def add(self, writer: asyncio.StreamWriter) -> None:
        """Another end, closed with the connection."""
        self._writers.append(writer)

    def close(self) -> None:
        """In order: both sides see the end."""
        self._is_closed = True
        for writer in self._writers:
            writer.close()

    def reset(self) -> None:
        """Both sides get an RST."""
        self._is_closed = True
        for writer in self._writers:
            # Of a TLS connection that has ended, asyncio no longer knows the socket.
            with contextlib.suppress(OSError, AttributeError):
                raw = writer.get_extra_info("socket")
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            writer.transport.abort()


class BaseLink(ABC):
    """Listens, keeps the connections, and can be cut.

    Attributes:
        port: On 127.0.0.1; stays the same, cut or not.
        seen: What went through.
    """

    def __init__(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> None:
        self._target = (host, port)
        self._tls = tls
        self.seen = Seen()
        self._cut: Cut | None = None
        self._keeps = False
        self._listener: socket.socket | None = None
        self._passing = asyncio.Event()
        self._passing.set()
        self._connections: dict[Connection, asyncio.Task[None]] = {}
        self._restoring: asyncio.Task[None] | None = None
        # No other program gets the port while the listener is closed.
        self._placeholder = _bound(0)
        self.port: int = self._placeholder.getsockname()[1]

    @classmethod
    @asynccontextmanager
    async def to(cls, url: str, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[Self]:
        """A link to the host and port of a URL, closed with the block; `tls` if that side alone speaks it."""
        parts = urlsplit(url)
        assert parts.hostname is not None
        assert parts.port is not None
        async with cls(parts.hostname, parts.port, tls) as link:
            yield link

    def lead_to(self, url: str) -> None:
        """Another host and port for the connections from now on."""
        parts = urlsplit(url)
        assert parts.hostname is not None
        assert parts.port is not None
        self._target = (parts.hostname, parts.port)

    async def __aenter__(self) -> Self:
        self._listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._close_listener()
        # A task that was not begun would leave its socket open.
        await asyncio.sleep(0)
        tasks = [*self._connections.values(), *([self._restoring] if self._restoring else [])]
        for connection in list(self._connections):
            connection.reset()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._placeholder.close()

    async def cut(self, cut: Cut, *, lasts_s: float | None = None, keeps: bool = False) -> None:
        """From now on, until `restore` or for so many seconds.

        Args:
            keeps: After a black hole its connections continue, as after a lost route. Else they are dead for good, as
                after a firewall has forgotten them.
        """
        await self.restore()
        self._cut, self._keeps = cut, keeps
        if cut is Cut.BLACK_HOLE:
            self._passing.clear()
        if cut is Cut.REFUSE:
            self._close_listener()
        for connection in list(self._connections):
            if cut is Cut.BLACK_HOLE:
                connection.is_dead |= not keeps
            elif cut is Cut.RESET:
                connection.reset()
            else:
                connection.close()
        if lasts_s is not None:
            self._restoring = asyncio.create_task(self._restore_after(lasts_s))

    async def restore(self) -> None:
        """Everything passes again."""
        restoring, self._restoring = self._restoring, None
        if restoring is not None and restoring is not asyncio.current_task():
            restoring.cancel()
        self._cut = None
        self._passing.set()
        if self._listener is None:
            self._listen()

    async def restored(self) -> None:
        """Wait until a cut that lasts some time is over."""
        while self._cut is not None:  # noqa: ASYNC110 - a timer of our own ends it
            await asyncio.sleep(0.01)

    @abstractmethod
    async def _serve(self, connection: Connection) -> None:
        """One connection, until it ends."""

    async def _connect(self, connection: Connection) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(*self._target, ssl=self._tls)
        connection.add(writer)
        return reader, writer

    async def _pass(self, connection: Connection) -> None:
        """Wait as long as no byte gets through."""
        while connection.is_dead or not self._passing.is_set():
            if connection.is_dead:
                await asyncio.Event().wait()
            await self._passing.wait()

    async def _restore_after(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await self.restore()

    def _listen(self) -> None:
        """With a socket of our own: asyncio's server loses track of what it accepts while it is being closed."""
        self._listener = _bound(self.port)
        self._listener.listen(100)
        asyncio.get_running_loop().add_reader(self._listener, self._accept, self._listener)

    def _close_listener(self) -> None:
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
            self._listener = None

    def _accept(self, listener: socket.socket) -> None:
        try:
            accepted, _ = listener.accept()
        except OSError:
            # It has gone again.
            return
        accepted.setblocking(False)
        self.seen.connections += 1
        if self._cut is Cut.RESET:
            accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            accepted.close()
            return
        connection = Connection(accepted, is_dead=self._cut is Cut.BLACK_HOLE and not self._keeps)
        self._connections[connection] = asyncio.create_task(self._run(connection))

    async def _run(self, connection: Connection) -> None:
        try:
            await connection.open()
            await self._pass(connection)
            await self._serve(connection)
        except (OSError, EOFError):
            # One end is gone, or the test has cut the link.
            pass
        finally:
            del self._connections[connection]
            connection.close()


def _bound(port: int) -> socket.socket:
    bound = socket.socket()
    bound.setblocking(False)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    bound.bind(("127.0.0.1", port))
    return bound


class Link(BaseLink):
    """A link that knows bytes only.

    Attributes:
        loses_answer_to: The next bytes with this in them arrive, and nothing of their connection does afterwards.
    """

    loses_answer_to: bytes | None = None

    @override
    async def _serve(self, connection: Connection) -> None:
        reader, writer = await self._connect(connection)
        await asyncio.gather(
            self._pump(connection, connection.reader, writer), self._pump(connection, reader, connection.writer)
        )

    async def _pump(self, connection: Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(CHUNK_BYTES):
            await self._pass(connection)
            if self.loses_answer_to is not None and self.loses_answer_to in data:
                self.loses_answer_to, connection.is_dead = None, True
            writer.write(data)
            await writer.drain()
        await self._pass(connection)
        if writer.can_write_eof():
            writer.write_eof()


class SlowLink(Link):
    """A link that passes so many bytes a second in each direction and keeps few of them on the way.

    Attributes:
        bytes_per_s: Of each direction of a connection.
    """

    bytes_per_s = 1024 * 1024

    @override
    def _listen(self) -> None:
        super()._listen()
        assert self._listener is not None
        # Accepted sockets inherit it: what does not fit waits at the sender.
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SLOW_BUFFER_BYTES)

    @override
    async def _connect(self, connection: Connection) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        opened = socket.socket()
        opened.setblocking(False)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SLOW_BUFFER_BYTES)
        await asyncio.get_running_loop().sock_connect(opened, self._target)
        reader, writer = await asyncio.open_connection(sock=opened, limit=_SLOW_BUFFER_BYTES)
        connection.add(writer)
        return reader, writer

    @override
    async def _pump(self, connection: Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(_SLOW_BUFFER_BYTES):
            await self._pass(connection)
            writer.write(data)
            await writer.drain()
            await asyncio.sleep(len(data) / self.bytes_per_s)
        await self._pass(connection)
        if writer.can_write_eof():
            writer.write_eof()
