"""A connection to a task host: requests, their answers, and reports of jobs that have ended."""

import asyncio
import contextlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NotRequired, TypedDict, cast

ANSWER_S = 30.0
_CLOSED = "it closed the connection"
_UNKNOWN_LANGUAGE = "it speaks another language"


class HostDied(Exception):
    """A task host ended or did not answer."""


class LaunchAnswer(TypedDict):
    """The host's answer to the request to run a job; see `task_host.host`."""

    ok: bool
    reason: NotRequired[str]
    releases: NotRequired[bool]


class HostConnection:
    """A connection to a task host.

    Attributes:
        airflow: The version of Airflow that the host has.
        pid: The host's process.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, airflow: str, pid: int) -> None:
        self._reader = reader
        self._writer = writer
        self.airflow = airflow
        self.pid = pid
        self._next_id = 1
        self._requests: dict[int, asyncio.Future[LaunchAnswer]] = {}
        self._closed = False

    @classmethod
    async def open(cls, socket: Path) -> "HostConnection":
        """Connects and exchanges greetings.

        Raises:
            OSError: No process listens.
            HostDied: A process listens and does not answer as a task host does.
        """
        async with asyncio.timeout(ANSWER_S):
            reader, writer = await asyncio.open_unix_connection(socket)
            writer.write(b'{"op": "hello"}\n')
            line = await reader.readline()
        if not line:
            writer.close()
            raise HostDied(_CLOSED)
        try:
            hello = json.loads(line)
            return cls(reader, writer, hello["airflow"], hello["pid"])
        except (ValueError, TypeError, KeyError):
            writer.close()
            raise HostDied(_UNKNOWN_LANGUAGE) from None

    def send(self, message: Mapping[str, object]) -> None:
        """Sends a message."""
        self._writer.write(json.dumps(message).encode() + b"\n")

    async def drained(self) -> None:
        """Waits until all messages have been passed to the socket."""
        async with asyncio.timeout(ANSWER_S):
            await self._writer.drain()

    async def ask(self, message: Mapping[str, object]) -> LaunchAnswer:
        """Sends a message and waits for its answer, for as long as `listen` runs.

        Raises:
            HostDied: The connection was closed before the answer.
        """
        if self._closed:
            raise HostDied(_CLOSED)
        number = self._next_id
        self._next_id += 1
        answer: asyncio.Future[LaunchAnswer] = asyncio.get_running_loop().create_future()
        self._requests[number] = answer
        try:
            self.send({"id": number, **message})
            return await answer
        finally:
            del self._requests[number]

    async def listen(self, on_exited: Callable[[str], None]) -> None:
        """Processes the host's messages until the connection ends.

        Args:
            on_exited: Called with the folder of each job whose process has ended.

        Raises:
            HostDied: A message is not one of a task host.
        """
        with contextlib.suppress(ConnectionError):
            while line := await self._reader.readline():
                message = json.loads(line)
                if not isinstance(message, dict):
                    raise HostDied(_UNKNOWN_LANGUAGE)
                if "exited" in message:
                    on_exited(message["exited"])
                elif (answer := self._requests.get(message.get("id", 0))) is not None and not answer.done():
                    answer.set_result(cast("LaunchAnswer", message))

    def close(self) -> None:
        """Closes the connection; requests without an answer end with `HostDied`."""
        self._closed = True
        self._writer.close()
        for answer in self._requests.values():
            if not answer.done():
                answer.set_exception(HostDied(_CLOSED))
