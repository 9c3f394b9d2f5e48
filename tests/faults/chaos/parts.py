"""What can be taken away from a running system, at once and without a word, and how each part comes back."""

import asyncio
import json
import os
import signal
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

from typing_extensions import override

from local.processes.child import Child
from local.system.edge import UnsandboxedWorker
from local.system.ports import is_listening
from local.system.relay import Replica
from local.system.system import LocalSystem

READY_S = 600
"""An api-server imports for minutes where others use the processors."""


class Part(ABC):
    """A part of the system.

    Attributes:
        is_quick: Comes back within a second or so; what imports Airflow does not, and nothing continues without it.
    """

    name: str
    is_quick = True

    @abstractmethod
    async def kill(self) -> bool:
        """SIGKILL; False if it does not run at the moment."""

    @abstractmethod
    async def revive(self) -> None:
        """Start it again, unless somebody else does, and wait until it is of use."""


@dataclass
class Agent(Part):
    """A worker's agent; its task host and its tasks live on."""

    worker: UnsandboxedWorker
    name: str = "agent"

    @override
    async def kill(self) -> bool:
        with suppress(ProcessLookupError):
            self.worker.signal_agent(signal.SIGKILL)
            return True
        return False

    @override
    async def revive(self) -> None:
        while self.worker.agent_pid is not None:  # noqa: ASYNC110  # the machine notes it within milliseconds
            await asyncio.sleep(0.01)
        self.worker.start_agent()


@dataclass
class TaskHost(Part):
    """The task host of the moment, which the agent starts again; its tasks live on."""

    worker: UnsandboxedWorker
    name: str = "task host"

    @override
    async def kill(self) -> bool:
        host = await asyncio.to_thread(self._host)
        return host is not None and _kill(host)

    @override
    async def revive(self) -> None:
        """The agent does."""

    def _host(self) -> int | None:
        """The last one that an agent spoke to."""
        lines = self.worker.child.log.read_text(errors="replace").splitlines()
        for line in reversed(lines):
            if "task_host_ready" in line:
                return int(json.loads(line)["host_pid"])
        return None


@dataclass
class Relay(Part):
    """The replica that the worker speaks to."""

    replica: Replica
    name: str = "relay"

    @override
    async def kill(self) -> bool:
        was_there = self.replica.child.running
        await self.replica.child.kill()
        return was_there

    @override
    async def revive(self) -> None:
        await self.replica.start()


@dataclass
class Nats(Part):
    """nats-server, which the first relay starts again."""

    system: LocalSystem
    name: str = "NATS"

    @override
    async def kill(self) -> bool:
        pid = self.system.relay.nats_pid
        return pid is not None and _kill(pid)

    @override
    async def revive(self) -> None:
        """The first relay does."""


class Service(Part):
    """A service of Airflow's, with all that it started."""

    is_quick = False

    def __init__(self, child: Child, ready: Callable[[], Awaitable[bool]] | None = None) -> None:
        self.name, self._child, self._ready = child.name, child, ready

    @override
    async def kill(self) -> bool:
        was_there = self._child.running
        await self._child.crash()
        return was_there

    @override
    async def revive(self) -> None:
        await self._child.start()
        if self._ready is not None:
            await self._child.wait_until(self._ready, timeout_s=READY_S)


def parts(system: LocalSystem, worker: UnsandboxedWorker, replica: Replica) -> list[Part]:
    """All parts that a job needs."""
    services = system.airflow.children
    gate = system.relay.gate_ports[0]
    return [
        Agent(worker),
        TaskHost(worker),
        Relay(replica),
        Nats(system),
        Service(services["keeper"], lambda: is_listening(gate)),
        Service(services["api-server"], system.api.warm_up),
        Service(services["scheduler"]),
    ]


def _kill(pid: int) -> bool:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
        return True
    return False
