"""The owner's side of the control socket. Synchronous: a command makes few requests and ends."""

import os
import socket
from pathlib import Path

from pydantic import ValidationError

from edge_worker.control.protocol import MAX_REPLY_BYTES, POINTER, AgentStatus, ControlReply, ControlRequest

TIMEOUT_S = 30.0


class ControlError(Exception):
    """The agent did not do what was asked. The text says why, and what to do."""


class NoAgent(ControlError):
    """No agent listens: none runs, or it has just ended."""


def ask(state_dir: Path, request: ControlRequest) -> AgentStatus:
    """Asks the agent of a state folder.

    Raises:
        NoAgent: No agent listens.
        ControlError: It refused, or this user may not ask.
    """
    path = _socket_path(state_dir)
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(TIMEOUT_S)
            connection.connect(str(path))
            connection.sendall(request.model_dump_json().encode() + b"\n")
            line = _line(connection)
    except (FileNotFoundError, ConnectionError):
        raise NoAgent(f"no agent answers at {path}") from None
    except PermissionError:
        raise ControlError(_not_allowed(state_dir)) from None
    except OSError as error:
        raise ControlError(f"the agent does not answer at {path}: {error}") from None
    try:
        reply = ControlReply.model_validate_json(line)
    except ValidationError:
        if not line:
            # It ended, or has more connections than it serves.
            raise NoAgent(f"the agent closed the connection at {path}") from None
        raise ControlError("the answer is not from an agent of this version; restart it after an upgrade") from None
    if reply.status is None:
        raise ControlError(reply.error or "the agent answered nothing")
    return reply.status


def _socket_path(state_dir: Path) -> Path:
    try:
        return Path((state_dir / POINTER).read_text().strip())
    except FileNotFoundError:
        raise NoAgent(f"no agent has run on the state folder {state_dir}") from None
    except PermissionError:
        raise ControlError(_not_allowed(state_dir)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ControlError(f"{state_dir / POINTER} cannot be read: {error}") from None


def _line(connection: socket.socket) -> bytes:
    found = b""
    while chunk := connection.recv(1 << 16):
        found += chunk
        if len(found) > MAX_REPLY_BYTES:
            raise ControlError("the answer is too long")
    return found


def _not_allowed(state_dir: Path) -> str:
    return f"this user ({os.geteuid()}) may not use the state folder {state_dir}: run this as the agent's user or root"
