"""A link that reads plain HTTP/1.1, and does to requests and answers what proxies and load balancers do.

async with HttpLink.to(relay_url) as link:
strike = link.arm(Fault.BAD_GATEWAY, "POST", r"/start$", at=Point.ANSWER)
await strike.happened.wait()
"""

import asyncio
import re
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import Enum, auto

from typing_extensions import override

from support.network.link import BaseLink, Connection, Cut

_FOREIGN_PAGE = b"<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>\r\n"
_SERVER_ERROR = b'{"message":"Internal server error","correlation-id":"c"}'


def _answer(status: bytes, kind: bytes, body: bytes) -> bytes:
    head = b"HTTP/1.1 %s\r\nServer: a-server\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n"
    return head % (status, kind, len(body)) + body


BAD_GATEWAY = _answer(b"502 Bad Gateway", b"text/html", _FOREIGN_PAGE)


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
    SERVER_ERROR = auto()
    """A 500 of the api-server itself takes the place of the answer."""
    TOO_LARGE = auto()
    """A 413 of something in front of the api-server takes the place of the answer."""
    REPEAT = auto()
    """The request is delivered again after its answer; the second answer is returned."""
    REPEAT_AT_ONCE = auto()
    """The request is delivered twice at the same moment; the answer to one of them is returned."""


_INSTEAD = {
    Fault.BAD_GATEWAY: BAD_GATEWAY,
    Fault.SERVER_ERROR: _answer(b"500 Internal Server Error", b"application/json", _SERVER_ERROR),
    Fault.TOO_LARGE: _answer(b"413 Request Entity Too Large", b"text/html", b"<html>413</html>"),
}
"""What takes the place of an answer."""


class Point(Enum):
    """Where on a request's way a fault strikes."""

    REQUEST = auto()
    """It is not delivered."""
    ANSWER = auto()
    """It was delivered and answered, and the answer is lost."""


@dataclass
class Strike:
    """A fault that waits for its request.

    Attributes:
        answer_holds: Strikes only where the answer has this in it; for `Point.ANSWER`.
        times: How often it still strikes.
        lasts_s: How long the link is cut; for `Fault.REFUSE`.
        each: Strikes the first try of each different target, query included, instead of `times` requests.
        meanwhile: Awaited between an answer and its loss.
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
    meanwhile: Callable[[], Awaitable[object]] | None = None
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
        meanwhile: Callable[[], Awaitable[object]] | None = None,
    ) -> Strike:
        """Let a fault wait for the next request whose path, query included, matches the expression."""
        strike = Strike(fault, method, re.compile(path), at, answer_holds, times, lasts_s, each, meanwhile)
        self._strikes.append(strike)
        return strike

    def disarm(self, strike: Strike) -> None:
        """A fault strikes no more."""
        self._strikes.remove(strike)

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
                if strike.fault in _INSTEAD:
                    connection.writer.write(_INSTEAD[strike.fault])
                    return False
                await self._lose(connection, strike)
        return True

    async def _after(self, connection: Connection, request: Message, answer: Message, strikes: list[Strike]) -> bool:
        """What happens to an answer on its way back; False if the connection has ended with it."""
        for strike in strikes:
            # Another request may have been struck while this one was parked.
            if strike.at is not Point.ANSWER or strike.answer_holds not in answer.raw or not strike.awaits(request):
                continue
            if strike.meanwhile is not None:
                await strike.meanwhile()
            strike.strike(request)
            if strike.fault in _INSTEAD:
                connection.writer.write(_INSTEAD[strike.fault])
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
    while not reader.at_eof() and reader.exception() is None:  # noqa: ASYNC110 - a stream reader reports its end to its reader only
        await asyncio.sleep(0.02)
    await may_be_seen()
