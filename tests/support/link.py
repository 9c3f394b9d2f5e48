"""A way from one program to another that a test can cut: a TCP proxy on loopback, and one that reads plain HTTP.

`Link` knows bytes only, so it stands before a TLS listener or NATS as well. `HttpLink` sees requests and answers, and
does what proxies and load balancers do with them.

    async with HttpLink.to(relay_url) as link:
        await link.cut(Cut.BLACK_HOLE, lasts_s=3)
        strike = link.arm(Fault.BAD_GATEWAY, "POST", r"/start$", at=Point.ANSWER)
        await strike.happened.wait()
"""

import asyncio
import contextlib
import re
import socket
import ssl
import struct
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Self
from urllib.parse import urlsplit

from typing_extensions import override

CHUNK_BYTES = 64 * 1024
_RESET = struct.pack("ii", 1, 0)
_FOREIGN_PAGE = b"<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>\r\n"
BAD_GATEWAY = (
    b"HTTP/1.1 502 Bad Gateway\r\nServer: a-proxy\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n%s"
    % (len(_FOREIGN_PAGE), _FOREIGN_PAGE)
)


class Cut(Enum):
    """What is wrong with the whole link."""

    REFUSE = auto()
    """Nobody listens, and what stood is closed."""
    BLACK_HOLE = auto()
    """Connections stand and can be made, and no byte comes through, nor the end of a connection."""
    RESET = auto()
    """Connections, old and new, are reset."""


class Fault(Enum):
    """What befalls one request."""

    REFUSE = auto()
    """The link is cut (`Cut.REFUSE`) for a while."""
    BLACK_HOLE = auto()
    """Its connection is silent for good."""
    RESET = auto()
    """Its connection is reset."""
    HALF_ANSWER = auto()
    """Half of the answer comes, then the connection is closed."""
    BAD_GATEWAY = auto()
    """An HTML page with status 502 takes the place of the answer."""
    REPEAT = auto()
    """The request is delivered again once it was answered; the second answer is given."""
    REPEAT_AT_ONCE = auto()
    """The request is delivered twice at the same moment; the answer to either of them is given."""


class Point(Enum):
    """Where on a request's way a fault strikes."""

    REQUEST = auto()
    """It is not delivered."""
    ANSWER = auto()
    """It was delivered and answered, and the answer is lost."""


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
        self._mending: asyncio.Task[None] | None = None
        # Nobody else is given the port while the listener is closed.
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

    async def __aenter__(self) -> Self:
        self._listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._close_listener()
        # A task that was not begun would leave its socket open.
        await asyncio.sleep(0)
        tasks = [*self._connections.values(), *([self._mending] if self._mending else [])]
        for connection in list(self._connections):
            connection.reset()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._placeholder.close()

    async def cut(self, cut: Cut, *, lasts_s: float | None = None, keeps: bool = False) -> None:
        """From now on, until `mend` or for so many seconds.

        Args:
            keeps: After a black hole its connections go on, as after a lost route. Else they are dead for good, as
                after a firewall has forgotten them.
        """
        await self.mend()
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
            self._mending = asyncio.create_task(self._mend_after(lasts_s))

    async def mend(self) -> None:
        """Everything passes again."""
        mending, self._mending = self._mending, None
        if mending is not None and mending is not asyncio.current_task():
            mending.cancel()
        self._cut = None
        self._passing.set()
        if self._listener is None:
            self._listen()

    async def mended(self) -> None:
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

    async def _mend_after(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await self.mend()

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
    """A link that knows bytes only."""

    @override
    async def _serve(self, connection: Connection) -> None:
        reader, writer = await self._connect(connection)
        await asyncio.gather(
            self._pump(connection, connection.reader, writer), self._pump(connection, reader, connection.writer)
        )

    async def _pump(self, connection: Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(CHUNK_BYTES):
            await self._pass(connection)
            writer.write(data)
            await writer.drain()
        await self._pass(connection)
        if writer.can_write_eof():
            writer.write_eof()


@dataclass
class Strike:
    """A fault that waits for its request.

    Attributes:
        answer_holds: Strikes only where the answer has this in it; for `Point.ANSWER`.
        times: How often it still strikes.
        lasts_s: How long the link is cut; for `Fault.REFUSE`.
        each: Strikes the first try of each different target, query included, instead of `times` requests.
        happened: Set at the first strike.
    """

    fault: Fault
    method: str
    path: re.Pattern[str]
    at: Point
    answer_holds: bytes
    times: int
    lasts_s: float
    each: bool
    count: int = 0
    struck: set[str] = field(default_factory=set)
    happened: asyncio.Event = field(default_factory=asyncio.Event)

    def awaits(self, request: "Message") -> bool:
        """Whether this request may be the one."""
        if request.method != self.method or not self.path.search(request.target):
            return False
        return request.target not in self.struck if self.each else self.count < self.times

    def strike(self, request: "Message") -> None:
        """It happens."""
        self.count += 1
        self.struck.add(request.target)
        self.happened.set()


@dataclass(frozen=True)
class Message:
    """A request or an answer, as it came."""

    head: bytes
    body: bytes

    @property
    def raw(self) -> bytes:
        """All of it."""
        return self.head + self.body

    @property
    def method(self) -> str:
        """Of a request."""
        return self.head.split(b" ", 1)[0].decode()

    @property
    def target(self) -> str:
        """Of a request: path and query."""
        return self.head.split(b" ", 2)[1].decode()

    @property
    def status(self) -> int:
        """Of an answer."""
        return int(self.head.split(b" ", 2)[1])


async def read_message(reader: asyncio.StreamReader, *, asked: str | None = None) -> Message:
    """The next message.

    Args:
        asked: The request's method, if this is an answer.

    Raises:
        EOFError: The connection ended first.
    """
    head = await reader.readuntil(b"\r\n\r\n")
    message = Message(head, b"")
    if asked is not None and (asked == "HEAD" or message.status in {204, 304}):
        return message
    if re.search(rb"\r\nTransfer-Encoding: *chunked", head, re.IGNORECASE):
        return Message(head, await _read_chunks(reader))
    length = re.search(rb"\r\nContent-Length: *(\d+)", head, re.IGNORECASE)
    return Message(head, await reader.readexactly(int(length[1])) if length else b"")


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    parts = []
    while True:
        line = await reader.readuntil(b"\r\n")
        data = await reader.readexactly(int(line.split(b";")[0], 16) + 2)
        parts += [line, data]
        if line.startswith(b"0"):
            return b"".join(parts)


class HttpLink(BaseLink):
    """A link that reads plain HTTP/1.1: whole requests go there, whole answers come back."""

    def __init__(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(host, port, tls)
        self._strikes: list[Strike] = []

    @property
    def url(self) -> str:
        """Where the client is to go."""
        return f"http://127.0.0.1:{self.port}"

    def arm(
        self,
        fault: Fault,
        method: str,
        path: str,
        *,
        at: Point = Point.REQUEST,
        answer_holds: bytes = b"",
        times: int = 1,
        lasts_s: float = 0.5,
        each: bool = False,
    ) -> Strike:
        """Let a fault wait for the next request whose path, query included, matches the expression."""
        strike = Strike(fault, method, re.compile(path), at, answer_holds, times, lasts_s, each)
        self._strikes.append(strike)
        return strike

    @override
    async def _serve(self, connection: Connection) -> None:
        upstream: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        while True:
            request = await read_message(connection.reader)
            await self._pass(connection)
            strikes = [strike for strike in self._strikes if strike.awaits(request)]
            if not await self._before(connection, request, strikes):
                continue
            if upstream is None:
                upstream = await self._connect(connection)
            answer = await self._while_client_stays(connection, self._delivered(connection, upstream, request, strikes))
            await self._pass(connection)
            if not await self._after(connection, request, answer, strikes):
                return

    async def _before(self, connection: Connection, request: Message, strikes: list[Strike]) -> bool:
        """What happens to a request on its way there; False if it was answered in the other side's place."""
        for strike in strikes:
            if strike.at is Point.REQUEST and strike.fault not in {Fault.REPEAT, Fault.REPEAT_AT_ONCE}:
                strike.strike(request)
                if strike.fault is Fault.BAD_GATEWAY:
                    connection.writer.write(BAD_GATEWAY)
                    return False
                await self._lose(connection, strike)
        return True

    async def _after(self, connection: Connection, request: Message, answer: Message, strikes: list[Strike]) -> bool:
        """What happens to an answer on its way back; False if the connection has ended with it."""
        for strike in strikes:
            # Another request may have been struck while this one was parked.
            if strike.at is not Point.ANSWER or strike.answer_holds not in answer.raw or not strike.awaits(request):
                continue
            strike.strike(request)
            if strike.fault is Fault.BAD_GATEWAY:
                connection.writer.write(BAD_GATEWAY)
                return True
            if strike.fault is Fault.HALF_ANSWER:
                connection.writer.write(answer.raw[: len(answer.raw) // 2])
                await connection.writer.drain()
                return False
            await self._lose(connection, strike)
        connection.writer.write(answer.raw)
        await connection.writer.drain()
        return True

    async def _lose(self, connection: Connection, strike: Strike) -> None:
        if strike.fault is Fault.REFUSE:
            await self.cut(Cut.REFUSE, lasts_s=strike.lasts_s)
        elif strike.fault is Fault.RESET:
            connection.reset()
        else:
            connection.is_dead = True
            await self._pass(connection)
        raise ConnectionResetError

    async def _delivered(
        self,
        connection: Connection,
        upstream: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        request: Message,
        strikes: list[Strike],
    ) -> Message:
        for strike in strikes:
            if strike.fault is Fault.REPEAT:
                strike.strike(request)
                await self._exchange(await self._connect(connection), request)
            elif strike.fault is Fault.REPEAT_AT_ONCE:
                strike.strike(request)
                first = self._exchange(await self._connect(connection), request)
                _, answer = await asyncio.gather(first, self._exchange(upstream, request))
                return answer
        return await self._exchange(upstream, request)

    async def _exchange(self, upstream: tuple[asyncio.StreamReader, asyncio.StreamWriter], request: Message) -> Message:
        reader, writer = upstream
        writer.write(request.raw)
        await writer.drain()
        self.seen.requests[f"{request.method} {request.target.partition('?')[0]}"] += 1
        return await read_message(reader, asked=request.method)

    async def _while_client_stays(self, connection: Connection, work: Awaitable[Message]) -> Message:
        """The answer, unless the client goes first: then the other side sees it go, as it would without us."""
        answering = asyncio.ensure_future(work)
        leaving = asyncio.ensure_future(_until_closed(connection.reader, lambda: self._pass(connection)))
        try:
            await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if not answering.done():
                raise ConnectionResetError
            return answering.result()
        finally:
            answering.cancel()
            leaving.cancel()
            await asyncio.gather(answering, leaving, return_exceptions=True)


async def _until_closed(reader: asyncio.StreamReader, may_be_seen: Callable[[], Awaitable[None]]) -> None:
    """No request may come before the answer to the last one: whatever ends the wait is the end of the connection."""
    while not reader.at_eof() and reader.exception() is None:  # noqa: ASYNC110 - a stream reader tells nobody of its end but who reads
        await asyncio.sleep(0.02)
    await may_be_seen()
