"""The client protocol of NATS, operation by operation, over one socket.

nats-py retries where a doctor must report, reports a missing right only in its error callback, and knows nothing
between "connected" and "not connected".
"""

import asyncio
import ssl
from asyncio import StreamReader, StreamWriter

ANSWER_S = 5.0
_PERMISSIONS = "permissions violation"


class ProbeFailed(Exception):
    """The server did not do what was asked; the text says what it did instead."""


class Denied(ProbeFailed):
    """The user lacks a right; the text is the server's."""


class Wire:
    """Reads and writes operations. One call at a time, nothing in the background."""

    def __init__(self, reader: StreamReader, writer: StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def close(self) -> None:
        """Close the socket without a farewell, which NATS accepts."""
        self._writer.transport.abort()

    async def start_tls(self, context: ssl.SSLContext, host: str) -> str:
        """Change to TLS; returns until when the server's certificate is valid, as it is written there.

        Raises:
            ssl.SSLError, OSError: The handshake failed.
        """
        await self._writer.start_tls(context, server_hostname=host)
        return str(self._writer.get_extra_info("peercert")["notAfter"])

    async def line(self) -> str:
        """One line from the server.

        Raises:
            ConnectionResetError: The server closed the connection.
        """
        line = await self._reader.readline()
        if not line.endswith(b"\n"):
            raise ConnectionResetError("the server closed the connection")
        return line.decode(errors="replace").strip()

    async def send(self, operations: bytes) -> list[str]:
        """Send operations and wait until the server has processed them; returns its errors.

        Raises:
            ProbeFailed: It did not answer in time.
        """
        self._writer.write(operations + b"PING\r\n")
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
            if errors:  # it reports the reason, and closes
                return errors
            raise

    async def request(self, operations: bytes) -> tuple[str, bytes]:
        """Send operations and wait for one message: headers as text, and body. The caller sets a time-out.

        Raises:
            Denied: The user lacks the right.
            ProbeFailed: The server reported another error.
        """
        self._writer.write(operations)
        await self._writer.drain()
        while True:
            word, line = await self._next()
            if word == "-ERR":
                raise Denied(line) if _PERMISSIONS in line.lower() else ProbeFailed(line)
            if word in ("MSG", "HMSG"):
                return await self._message(word, line)

    async def _next(self) -> tuple[str, str]:
        """The server's next operation that is no ping: its word and the rest of its line."""
        while True:
            word, _, rest = (await self.line()).partition(" ")
            if word.upper() != "PING":
                return word.upper(), rest.strip().strip("'")
            self._writer.write(b"PONG\r\n")

    async def _message(self, word: str, line: str) -> tuple[str, bytes]:
        sizes = [int(part) for part in line.split()[-2:] if part.isdigit()]
        header_size = sizes[0] if word == "HMSG" else 0
        content = await self._reader.readexactly(sizes[-1] + 2)
        return content[:header_size].decode(errors="replace"), content[header_size:-2]


def pub(subject: str, reply: str, body: bytes) -> bytes:
    """The operation that publishes a message."""
    return f"PUB {subject} {f'{reply} ' if reply else ''}{len(body)}\r\n".encode() + body + b"\r\n"
