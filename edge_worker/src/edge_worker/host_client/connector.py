"""Finds the task host of a setup, or starts one, and retires the hosts of other setups."""

import asyncio
import contextlib
from pathlib import Path

from edge_worker.host_client.connection import HostConnection, HostDied
from edge_worker.host_client.launcher import HostChild, HostSetup, last_log_line, start_host

READY_S = 180.0
"""How long a host may take to import Airflow; a small machine with a cold disk needs a good part of it."""
_CONNECT_EVERY_S = 0.1
_ALREADY_RUNNING = 3


class HostConnector:
    """Connects to task hosts, and keeps those that it has started until their exit status is read."""

    def __init__(self, setup: HostSetup) -> None:
        self._setup = setup
        self._children: list[HostChild] = []

    def reap(self) -> None:
        """Reads the exit status of started hosts that have ended."""
        self._children = [child for child in self._children if child.status() is None]

    async def connect(self) -> HostConnection:
        """Connects to the host of the setup, and starts it if there is none.

        Raises:
            HostDied: The host ended, or was not ready in time.
            ValueError: The path of its socket is too long.
        """
        socket = self._setup.socket()
        await self._retire_others(socket)
        with contextlib.suppress(OSError, HostDied):
            return await HostConnection.open(socket)
        try:
            child = start_host(self._setup, socket)
        except OSError as error:
            raise HostDied(f"{self._setup.runtime_python} (runtime_python): {error.strerror}") from None
        self._children.append(child)
        try:
            async with asyncio.timeout(READY_S):
                while True:
                    with contextlib.suppress(OSError):
                        return await HostConnection.open(socket)
                    self._check_start(child)
                    await asyncio.sleep(_CONNECT_EVERY_S)
        except TimeoutError:
            child.terminate()
            raise HostDied(f"it was not ready within {READY_S:.0f} s") from None
        except asyncio.CancelledError:
            child.terminate()
            raise

    def _check_start(self, child: HostChild) -> None:
        status = child.status()
        # "Already running": another host, started by an earlier agent, will soon serve the same socket.
        if status not in {None, _ALREADY_RUNNING}:
            why = last_log_line(self._setup.state_dir) or f"it ended with status {status}"
            raise HostDied(f"{self._setup.runtime_python} (runtime_python): {why}")

    async def _retire_others(self, own: Path) -> None:
        """Asks the hosts of earlier setups to end once their jobs have ended."""
        for path in self._setup.others(own):
            try:
                connection = await HostConnection.open(path)
            except (OSError, HostDied):
                path.unlink(missing_ok=True)
                continue
            connection.send({"op": "retire"})
            await connection.drained()
            connection.close()
