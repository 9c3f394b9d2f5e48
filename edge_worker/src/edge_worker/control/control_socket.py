"""The control socket: who may speak, how much, and for how long. It knows nothing of what is said."""

import asyncio
import os
import pwd
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from pydantic import ValidationError

from edge_worker.control.protocol import MAX_REQUEST_BYTES, ControlReply, ControlRequest
from edge_worker.log import EventLog

MAX_CONNECTIONS = 8
READ_S = 5.0
"""For the request: a client sends it at once."""
ANSWER_S = 20.0
_NO_REQUEST = ControlReply(error="that is no request of 'edge-worker' of this version")
_CREDENTIALS = struct.Struct("3i")

log = EventLog("edge_worker.control.control_socket")

Handle = Callable[[ControlRequest, str], Awaitable[ControlReply]]
"""Answers a request of a user of this machine."""


class ControlSocket:
    """Listens for the machine's owner: the agent's own user and root.

    The mode of the socket and of its folder keep others out; where the system tells who connects, that is checked too.
    """

    def __init__(self, path: Path, handle: Handle) -> None:
        self._path = path
        self._handle = handle
        self._open: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Listens while inside. A socket file that a killed agent left behind is replaced."""
        self._path.unlink(missing_ok=True)
        server = await asyncio.start_unix_server(self._connected, str(self._path), limit=MAX_REQUEST_BYTES)
        try:
            self._path.chmod(0o600)
            yield
        finally:
            server.close()
            for task in self._open:
                task.cancel()
            if self._open:
                await asyncio.wait(self._open)
            self._path.unlink(missing_ok=True)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._open) >= MAX_CONNECTIONS:
            writer.close()
            return
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer), name="control")
        self._open.add(task)
        task.add_done_callback(self._open.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            reply = await self._answer(reader, peer_uid(writer.get_extra_info("socket")))
            async with asyncio.timeout(READ_S):
                writer.write(reply.model_dump_json(exclude_none=True).encode() + b"\n")
                await writer.drain()
        except (OSError, TimeoutError):
            # The client has left, or does not read.
            log.debug("control_client_left")
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader, uid: int | None) -> ControlReply:
        try:
            async with asyncio.timeout(READ_S):
                line = await reader.readline()
        except (ValueError, TimeoutError):
            # A line that is too long is a ValueError.
            return _NO_REQUEST
        # Only then: a client that is refused while it still sends would not read why.
        if uid is not None and uid not in {0, os.geteuid()}:
            log.warning("control_refused", uid=uid)
            return ControlReply(error="only the user of the agent and root may control it")
        try:
            request = ControlRequest.model_validate_json(line)
        except ValidationError:
            return _NO_REQUEST
        try:
            async with asyncio.timeout(ANSWER_S):
                return await self._handle(request, user_name(uid))
        except (OSError, TimeoutError) as error:
            return ControlReply(error=str(error) or f"no answer within {ANSWER_S:g} s")
        except Exception:
            log.exception("control_fault", do=request.do)
            return ControlReply(error="an error in the agent; its log has the details")


def peer_uid(connection: socket.socket | None) -> int | None:
    """The user at the other end; None where the system does not tell."""
    option = getattr(socket, "SO_PEERCRED", None)
    if connection is None or option is None:
        return None
    _, uid, _ = _CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, option, _CREDENTIALS.size))
    return int(uid)


def user_name(uid: int | None) -> str:
    """The user's name, or number."""
    if uid is None:
        return "a user of this machine"
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
