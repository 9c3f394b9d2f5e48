"""The network path to the relay, one hop at a time: TCP, TLS to the proxy, the proxy's tunnel, TLS to the relay.

The agent's HTTP client uses the path as a whole and only knows that it failed.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

from edge_worker import __version__
from edge_worker.relay.proxy import Proxy

_PORTS = {"http": 80, "https": 443}
_MAX_HEAD_BYTES = 64 * 1024


@dataclass(frozen=True)
class Stream:
    """A connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def ask(self, request: bytes) -> "Head":
        """Sends a request and reads the beginning of its answer.

        Raises:
            NoHttp: The received bytes are not an HTTP answer.
            OSError: The connection broke.
        """
        self.writer.write(request)
        await self.writer.drain()
        try:
            head = await self.reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as error:
            if not error.partial:
                raise ConnectionResetError from None
            raise NoHttp from None
        except asyncio.LimitOverrunError:
            raise NoHttp from None
        return Head.parse(head)

    @property
    def peer(self) -> str:
        """The address at the other end."""
        name = self.writer.get_extra_info("peername")
        return str(name[0]) if name else "?"

    def certificate(self) -> bytes:
        """The certificate of the other end, DER; empty if it sent none."""
        tls = self.writer.get_extra_info("ssl_object")
        return (tls.getpeercert(binary_form=True) if tls else None) or b""


class NoHttp(Exception):
    """The received bytes are not an HTTP answer."""


@dataclass(frozen=True)
class Head:
    """The beginning of an answer."""

    status: int
    reason: str
    headers: tuple[tuple[str, str], ...]

    @classmethod
    def parse(cls, head: bytes) -> "Head":
        """Reads status line and headers.

        Raises:
            NoHttp: There is no status line.
        """
        first, *lines = head.decode("latin-1").split("\r\n")
        version, _, status_and_reason = first.partition(" ")
        status, _, reason = status_and_reason.partition(" ")
        if not version.startswith("HTTP/") or not status.isascii() or not status.isdigit():
            raise NoHttp
        pairs = (line.partition(":") for line in lines if ":" in line)
        return cls(int(status), reason, tuple((name.strip().lower(), value.strip()) for name, _, value in pairs))

    def all(self, name: str) -> list[str]:
        """All values of a header."""
        return [value for key, value in self.headers if key == name]

    def first(self, name: str) -> str:
        """The value of a header, empty if there is none."""
        return next(iter(self.all(name)), "")


class TunnelRefused(Exception):
    """The proxy did not open a tunnel to the relay."""

    def __init__(self, head: Head) -> None:
        super().__init__(head.status)
        self.head = head


@dataclass(frozen=True)
class Hop:
    """The destination of one hop."""

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> "Hop":
        """The host of a URL."""
        parts = urlsplit(url)
        return cls(parts.scheme, parts.hostname or "", parts.port or _PORTS[parts.scheme])

    @property
    def authority(self) -> str:
        """`host:port`."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class NetworkPath:
    """From this machine to the relay.

    Args:
        relay_url: The address of the relay.
        proxy: The proxy that the agent would use.
        tls: The context with the authorities that the agent trusts.
    """

    def __init__(self, relay_url: str, proxy: Proxy | None, tls: ssl.SSLContext) -> None:
        self.relay = Hop.of(relay_url)
        self.proxy = proxy
        self.proxy_hop = Hop.of(proxy.url) if proxy else None
        self.tls = tls

    @property
    def first(self) -> Hop:
        """The hop to which this machine itself connects."""
        return self.proxy_hop or self.relay

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[Stream]:
        """TCP to the first hop."""
        reader, writer = await asyncio.open_connection(
            self.first.host, self.first.port, happy_eyeballs_delay=0.25, limit=_MAX_HEAD_BYTES
        )
        try:
            yield Stream(reader, writer)
        finally:
            writer.transport.abort()

    @asynccontextmanager
    async def at_proxy(self, context: ssl.SSLContext | None = None) -> AsyncIterator[Stream]:
        """A connection on which the proxy accepts requests."""
        async with self.connected() as stream:
            if self.first.scheme == "https" and self.proxy_hop is not None:
                await stream.writer.start_tls(context or self.tls, server_hostname=self.first.host)
            yield stream

    @asynccontextmanager
    async def tunnelled(self) -> AsyncIterator[Stream]:
        """A connection to the relay's TCP port, through the proxy if there is one.

        Raises:
            TunnelRefused: The proxy refuses.
            NoHttp: The other end is not a proxy.
        """
        if self.proxy_hop is None:
            async with self.connected() as stream:
                yield stream
            return
        async with self.at_proxy() as stream:
            head = await stream.ask(self._connect_request())
            if head.status != 200:
                raise TunnelRefused(head)
            yield stream

    @asynccontextmanager
    async def secured(self, context: ssl.SSLContext) -> AsyncIterator[Stream]:
        """A connection on which the relay accepts requests, with the authorities that `context` trusts.

        Raises:
            ssl.SSLError: The handshake failed.
        """
        async with self.tunnelled() as stream:
            await stream.writer.start_tls(context, server_hostname=self.relay.host)
            yield stream

    def _connect_request(self) -> bytes:
        target = self.relay.authority
        lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}", f"User-Agent: edge-worker/{__version__}"]
        headers = (self.proxy.headers if self.proxy else None) or {}
        lines += [f"{name}: {value}" for name, value in headers.items()]
        return "\r\n".join([*lines, "", ""]).encode()


def unverified() -> ssl.SSLContext:
    """Accepts any certificate, to read it. No secret is sent over such a connection."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def trusting_only(der: bytes) -> ssl.SSLContext:
    """Accepts only certificates that this authority has signed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=der)
    return context
