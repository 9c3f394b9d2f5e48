"""A connection for a doctor: it reports exactly where it fails, and whether a subject may be used."""

import asyncio
import json
import secrets
import ssl
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self, TypedDict

from edge_broker.connection.api import ApiAnswer
from edge_broker.connection.errors import NO_RESPONDERS, JetStreamError
from edge_broker.doctor.address import Address
from edge_broker.doctor.wire import ANSWER_S, ProbeFailed, Wire, pub

GREETING_S = 3.0


class ServerInfo(TypedDict, total=False):
    """What a server reports of itself in its greeting."""

    version: str
    tls_required: bool
    jetstream: bool
    cluster: str


class NoAnswer(ProbeFailed):
    """No server has this API call, stream or leader at the moment."""


class Probe:
    """A connection, made step by step: `greet`, `secure` if `needs_tls`, `log_in`. Then it can call the API.

    Attributes:
        info: The server's greeting.
    """

    def __init__(self, wire: Wire, address: Address) -> None:
        self._wire = wire
        self.address = address
        self.info: ServerInfo = {}
        self._inbox = ""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._wire.close()

    @classmethod
    async def greet(cls, address: Address) -> Self:
        """Connect and read the server's greeting.

        Raises:
            OSError: There is no connection.
            ProbeFailed: What listens there is no NATS server.
        """
        wire = Wire(*await asyncio.open_connection(address.host, address.port))
        probe = cls(wire, address)
        try:
            async with asyncio.timeout(GREETING_S):
                line = await wire.line()
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
        """Whether the server accepts no credentials before TLS."""
        return bool(self.info.get("tls_required"))

    @property
    def version(self) -> tuple[int, ...]:
        """The server's; () if it reports none that can be compared."""
        numbers = str(self.info.get("version", "")).partition("-")[0].split(".")
        return tuple(map(int, numbers)) if all(part.isdigit() for part in numbers) else ()

    async def secure(self, ca_file: Path | None) -> datetime:
        """Change to TLS; returns until when the server's certificate is valid.

        Raises:
            ssl.SSLError, OSError: The handshake failed.
        """
        context = ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
        valid_until = await self._wire.start_tls(context, self.address.host)
        return datetime.fromtimestamp(ssl.cert_time_to_seconds(valid_until), UTC)

    async def log_in(self, user: str, password: str) -> None:
        """Present the credentials.

        Raises:
            ProbeFailed: The server rejected them.
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
        if errors := await self._wire.send(f"CONNECT {json.dumps(hello)}\r\n".encode()):
            raise ProbeFailed(errors[0])

    async def may_publish(self, subject: str, body: bytes) -> bool:
        """Whether the user may publish to the subject. The message is really sent; streams reject it."""
        if subject.startswith("$JS."):
            return not await self._wire.send(pub(subject, "", body))
        head = b"NATS/1.0\r\nNats-Expected-Stream: _doctor_\r\n\r\n"
        return not await self._wire.send(f"HPUB {subject} {len(head)} {len(head)}\r\n".encode() + head + b"\r\n")

    async def may_subscribe(self, subject: str) -> bool:
        """Whether the user may subscribe to the subject."""
        return not await self._wire.send(f"SUB {subject} 9\r\nUNSUB 9\r\n".encode())

    async def api(self, call: str, body: Mapping[str, object] | None = None) -> ApiAnswer:
        """A call of the JetStream API, for example `STREAM.INFO.EDGE_JOBS`.

        Raises:
            Denied: The user lacks the right.
            NoAnswer: No responders, or no answer in time.
            JetStreamError: The server rejected the call.
        """
        inbox = f"{self._inbox}.{secrets.token_hex(4)}"
        payload = json.dumps(body).encode() if body is not None else b""
        question = f"SUB {inbox} 1\r\nUNSUB 1 1\r\n".encode() + pub(f"$JS.API.{call}", inbox, payload)
        try:
            async with asyncio.timeout(ANSWER_S):
                header, data = await self._wire.request(question)
        except TimeoutError:
            raise NoAnswer(f"no answer to {call} within {ANSWER_S:g} s") from None
        if header.startswith(f"NATS/1.0 {NO_RESPONDERS}"):
            raise NoAnswer(f"nothing answers {call}")
        answer: ApiAnswer = json.loads(data)
        if error := answer.get("error"):
            raise JetStreamError(int(error.get("err_code", 0)), str(error.get("description", "")))
        return answer
