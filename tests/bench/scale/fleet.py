"""Many workers in a process of their own. Each one polls, reports its jobs, obeys each stop, and retries like an agent.

`python -m bench.scale.fleet` reads its orders from stdin as one JSON object, and prints a line for each event: when all
workers have polled, and each stop and each availability that a worker was told, with the time.
"""

import asyncio
import os
import ssl
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import aiohttp
import orjson

from edge_schemas.wire.routes import POLL
from edge_worker.agent.poll_loop import BUSY_CAP_S
from edge_worker.relay.call_result import NoAnswer
from edge_worker.relay.retry import Backoff

VERSIONS = {"agent": "bench", "python": "bench", "platform": "bench"}


@dataclass(frozen=True)
class Member:
    """A worker and the jobs that run on it."""

    secret: str
    jobs: tuple[str, ...]


@dataclass(frozen=True)
class Orders:
    """What the fleet does."""

    url: str
    ca_file: str
    poll_timeout_s: float
    slots: int
    members: Sequence[Member]


@dataclass
class Fleet:
    """The process and what it has printed.

    Attributes:
        stops: When the stop of each job was received.
        told: When workers were told an availability, by its name.
        failures: Polls that ended in an error.
        back: When a worker's poll was answered again after an error.
    """

    process: asyncio.subprocess.Process
    stops: dict[str, float] = field(default_factory=dict)
    told: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    failures: int = 0
    back: list[float] = field(default_factory=list)
    parked: asyncio.Event = field(default_factory=asyncio.Event)

    async def follow(self) -> None:
        """Keep the attributes up to date, until the process ends."""
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            event = orjson.loads(line)
            if "stop" in event:
                self.stops[event["stop"]] = event["at"]
            elif "told" in event:
                self.told[event["told"]].append(event["at"])
            elif "failed" in event:
                self.failures += 1
            elif "back" in event:
                self.back.append(event["back"])
            else:
                self.parked.set()


@asynccontextmanager
async def running_fleet(orders: Orders) -> AsyncIterator[Fleet]:
    """The workers, polling."""
    pipe = asyncio.subprocess.PIPE
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.scale.fleet"), stdin=pipe, stdout=pipe, limit=2**20, env=environment
    )
    fleet = Fleet(process)
    assert process.stdin is not None
    process.stdin.write(orjson.dumps(asdict(orders)) + b"\n")
    following = asyncio.create_task(fleet.follow(), name="fleet")
    try:
        await process.stdin.drain()
        await asyncio.wait_for(fleet.parked.wait(), 120)
        yield fleet
    finally:
        process.terminate()
        await process.wait()
        await following


class _Worker:
    """One of the fleet."""

    def __init__(self, orders: dict[str, Any], member: dict[str, Any], session: aiohttp.ClientSession) -> None:
        self._session = session
        self._url = orders["url"] + POLL
        self._headers = {"Authorization": f"Bearer {member['secret']}", "Content-Type": "application/json"}
        self._phases = dict.fromkeys(member["jobs"], "running")
        self._timeout_s = orders["poll_timeout_s"]
        self._slots = orders["slots"]
        self._seq = 0
        self._settings_version = 1
        self._backoff = Backoff()

    async def first(self) -> None:
        """The poll after which the worker is known."""
        await self._poll(0)

    async def run(self) -> None:
        """Poll without end. As an agent does, not for long after an error: the answer shows that the link works."""
        failed = False
        while True:
            try:
                await self._poll(0 if failed else self._timeout_s)
                self._backoff.reset()
                if failed:
                    _tell(back=time.time())
                failed = False
            except (aiohttp.ClientError, TimeoutError) as error:
                failed = True
                _tell(failed=repr(error))
                await asyncio.sleep(self._backoff.next_pause(NoAnswer(repr(error)), cap_s=BUSY_CAP_S))

    async def _poll(self, timeout_s: float) -> None:
        self._seq += 1
        body = {
            "protocol": 1,
            "incarnation": 1,
            "seq": self._seq,
            "slots": self._slots,
            "free": 1,
            "poll_timeout_s": timeout_s,
            "settings_version": self._settings_version,
            "versions": VERSIONS,
            "jobs": [{"id": j, "phase": phase, "offline": {}} for j, phase in self._phases.items()],
        }
        async with self._session.post(self._url, data=orjson.dumps(body), headers=self._headers) as reply:
            content = await reply.read()
        reply.raise_for_status()
        if reply.status != 200:
            return
        answer = orjson.loads(content)
        for stop in answer["stop"]:
            self._phases[stop["job"]] = "finishing"
            _tell(stop=stop["job"], at=time.time())
        if (settings := answer.get("settings")) is not None:
            self._settings_version = settings["version"]
            _tell(told=settings["availability"], at=time.time())


def _tell(**event: object) -> None:
    print(orjson.dumps(event).decode(), flush=True)


async def _main(orders: dict[str, Any]) -> None:
    context = ssl.create_default_context(cafile=orders["ca_file"])
    connector = aiohttp.TCPConnector(ssl=context, limit=0)
    timeout = aiohttp.ClientTimeout(total=orders["poll_timeout_s"] + 30)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session, asyncio.TaskGroup() as group:
        gate = asyncio.Semaphore(20)
        workers = [_Worker(orders, member, session) for member in orders["members"]]

        async def join(worker: _Worker) -> None:
            async with gate:
                await worker.first()

        await asyncio.gather(*(join(worker) for worker in workers))
        for worker in workers:
            group.create_task(worker.run())
        await asyncio.sleep(3)
        _tell()


if __name__ == "__main__":
    asyncio.run(_main(orjson.loads(sys.stdin.readline())))
