"""A NATS connection that tells exactly where it fails, and whether a subject may be used: what a doctor needs.

It speaks the protocol itself. nats-py retries where a doctor must tell, reports a missing right only beside the call,
and knows nothing between "connected" and "not connected". It does one thing at a time, and nothing in the background.
"""

import asyncio
import json
import secrets
import ssl
from asyncio import StreamReader, StreamWriter
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from edge_broker.connection.errors import NO_RESPONDERS, JetStreamError

GREETING_S = 3.0
ANSWER_S = 5.0
DEFAULT_PORT = 4222
SCHEMES = ("nats", "tls")
_PERMISSIONS = "permissions violation"


class AddressWrong(ValueError):
    """The address of a server can't be used; the text says why."""


class ProbeFailed(Exception):
    """The server did not do what was asked; the text says what it did instead."""


class Denied(ProbeFailed):
    """The user lacks a right; the text is the server's."""


class NobodyAnswers(ProbeFailed):
    """No server has this API call, stream or leader at the moment."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server listens."""

    host: str
    port: int
    tls: bool

    @classmethod
    def parse(cls, url: str) -> Self:
        """Of `nats://host:port` and the like.

        Raises:
            AddressWrong: It is none.
        """
        parts = urlsplit(url if "://" in url else f"nats://{url}")
        try:
            port = parts.port or DEFAULT_PORT
        except ValueError:
            raise AddressWrong(f"{url}: the port is no number up to 65535") from None
        if parts.scheme not in SCHEMES or not parts.hostname:
            raise AddressWrong(f"{url} is no address of a NATS server, such as nats://host:4222 or tls://host:4222")
        return cls(parts.hostname, port, parts.scheme == "tls")

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


class Probe:
    """A connection, made step by step: `greet`, `secure` if `needs_tls`, `log_in`. Then it can be asked.

    Attributes:
        info: What the server said of itself in its greeting.
    """

    def __init__(self, reader: StreamReader, writer: StreamWriter, address: Address) -> None:
        self._reader = reader
        self._writer = writer
        self.address = address
        self.info: dict[str, Any] = {}
        self._inbox = ""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave without a word, which NATS takes well."""
        self._writer.transport.abort()

    @classmethod
    async def greet(cls, address: Address) -> Self:
        """Connect and read what the server says of itself.

        Raises:
            OSError: There is no connection.
            ProbeFailed: Whoever listens there is no NATS server.
        """
        reader, writer = await asyncio.open_connection(address.host, address.port)
        probe = cls(reader, writer, address)
        try:
            async with asyncio.timeout(GREETING_S):
                line = await probe._line()
        except TimeoutError:
            probe.close()
            raise ProbeFailed(f"connected, but no greeting of a NATS server within {GREETING_S:g} s") from None
        except BaseException:
            probe.close()
            raise
        if not line.startswith("INFO "):
            probe.close()
            raise ProbeFailed("connected, but what answers is no NATS server")
        probe.info = json.loads(line.removeprefix("INFO "))
        return probe

    @property
    def needs_tls(self) -> bool:
        """Whether the server takes no credentials before TLS."""
        return bool(self.info.get("tls_required"))

    @property
    def version(self) -> tuple[int, ...]:
        """Of the server; () if it tells none that can be compared."""
        numbers = str(self.info.get("version", "")).partition("-")[0].split(".")
        return tuple(map(int, numbers)) if all(part.isdigit() for part in numbers) else ()

    async def secure(self, ca_file: Path | None) -> datetime:
        """Change to TLS; returns until when the server's certificate is valid.

        Raises:
            ssl.SSLError, OSError: The handshake failed.
        """
        context = ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
        await self._writer.start_tls(context, server_hostname=self.address.host)
        certificate = self._writer.get_extra_info("peercert")
        return datetime.fromtimestamp(ssl.cert_time_to_seconds(certificate["notAfter"]), UTC)

    async def log_in(self, user: str, password: str) -> None:
        """Present the credentials.

        Raises:
            ProbeFailed: The server refused them.
        """
        self._inbox = f"_INBOX_{user}.doctor{secrets.token_hex(8)}"
        hello = {
            "user": user,
            "pass": password,
            "name": "edge-relay doctor",
            "lang": "python",
            "version": "1",
            "protocol": 1,
            "verbose": False,
            "pedantic": False,
            "headers": True,
            "no_responders": True,
        }
        if errors := await self._send(f"CONNECT {json.dumps(hello)}\r\n".encode()):
            raise ProbeFailed(errors[0])

    async def may_publish(self, subject: str, body: bytes) -> bool:
        """Whether the user may publish to the subject. The message is really sent; streams refuse it."""
        if subject.startswith("$JS."):
            return not await self._send(_pub(subject, "", body))
        head = b"NATS/1.0\r\nNats-Expected-Stream: _doctor_\r\n\r\n"
        return not await self._send(f"HPUB {subject} {len(head)} {len(head)}\r\n".encode() + head + b"\r\n")

    async def may_subscribe(self, subject: str) -> bool:
        """Whether the user may subscribe to the subject."""
        return not await self._send(f"SUB {subject} 9\r\nUNSUB 9\r\n".encode())

    async def api(self, call: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """A call of the JetStream API, for example `STREAM.INFO.EDGE_JOBS`.

        Raises:
            Denied: The user lacks the right.
            NobodyAnswers: No responders, or no answer in time.
            JetStreamError: The server refused.
        """
        inbox = f"{self._inbox}.{secrets.token_hex(4)}"
        payload = json.dumps(body).encode() if body is not None else b""
        question = f"SUB {inbox} 1\r\nUNSUB 1 1\r\n".encode() + _pub(f"$JS.API.{call}", inbox, payload)
        try:
            async with asyncio.timeout(ANSWER_S):
                header, data = await self._ask(question)
        except TimeoutError:
            raise NobodyAnswers(f"no answer to {call} within {ANSWER_S:g} s") from None
        if header.startswith(f"NATS/1.0 {NO_RESPONDERS}"):
            raise NobodyAnswers(f"nobody answers {call}")
        answer: dict[str, Any] = json.loads(data)
        if error := answer.get("error"):
            raise JetStreamError(int(error.get("err_code", 0)), str(error.get("description", "")))
        return answer

    async def _ask(self, question: bytes) -> tuple[str, bytes]:
        self._writer.write(question)
        await self._writer.drain()
        while True:
            word, line = await self._next()
            if word == "-ERR":
                raise Denied(line) if _PERMISSIONS in line.lower() else ProbeFailed(line)
            if word in ("MSG", "HMSG"):
                return await self._message(word, line)

    async def _send(self, what: bytes) -> list[str]:
        """Send it and wait until the server has looked at it; returns its complaints."""
        self._writer.write(what + b"PING\r\n")
        await self._writer.drain()
        errors: list[str] = []
        try:
            async with asyncio.timeout(ANSWER_S):
                while True:
                    word, line = await self._next()
                    if word == "PONG":
                        return errors
                    if word == "-ERR":
                        errors.append(line)
                    elif word in ("MSG", "HMSG"):
                        await self._message(word, line)
        except TimeoutError:
            raise ProbeFailed(f"the server did not answer within {ANSWER_S:g} s") from None
        except ConnectionError:
            if errors:  # it says why, and closes
                return errors
            raise

    async def _next(self) -> tuple[str, str]:
        """The server's next operation that is no ping: its word and the rest of its line."""
        while True:
            word, _, rest = (await self._line()).partition(" ")
            if word.upper() != "PING":
                return word.upper(), rest.strip().strip("'")
            self._writer.write(b"PONG\r\n")

    async def _message(self, word: str, line: str) -> tuple[str, bytes]:
        """Headers as text, and body."""
        sizes = [int(part) for part in line.split()[-2:] if part.isdigit()]
        header_size = sizes[0] if word == "HMSG" else 0
        whole = await self._reader.readexactly(sizes[-1] + 2)
        return whole[:header_size].decode(errors="replace"), whole[header_size:-2]

    async def _line(self) -> str:
        line = await self._reader.readline()
        if not line.endswith(b"\n"):
            raise ConnectionResetError("the server closed the connection")
        return line.decode(errors="replace").strip()


def _pub(subject: str, reply: str, body: bytes) -> bytes:
    return f"PUB {subject} {f'{reply} ' if reply else ''}{len(body)}\r\n".encode() + body + b"\r\n"
