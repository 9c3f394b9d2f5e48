"""The queue without Airflow: relay, forward proxy and edge workers that run commands, started and stopped as one."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from local.processes.child import Child, clean_environment, stop_all
from local.system.edge import EdgeWorker
from local.system.paths import PROGRAMS
from local.system.proxy import ForwardProxy, host_and_port
from local.system.relay import Relay, RelayFacts


class QueueSystem:
    """A standalone relay, a forward proxy, and workers behind the proxy; everything is in one folder.

    Attributes:
        workers: By the names of their sites.
    """

    def __init__(self, directory: Path) -> None:
        """Choose ports; nothing is started yet."""
        self.directory = directory.resolve()
        self.relay = Relay(self.directory / "relay", keepers=0)
        self.proxy = ForwardProxy(self.directory / "proxy")
        self.workers: dict[str, EdgeWorker] = {}

    @property
    def facts(self) -> RelayFacts:
        """Addresses and files of the relay, which must have been started."""
        assert self.relay.facts is not None
        return self.relay.facts

    @property
    def children(self) -> list[Child]:
        """All child processes, in the order of their start."""
        return [self.relay.child, self.proxy.child, *(worker.child for worker in self.workers.values())]

    async def start(self, sites: Sequence[str], queue: str, *, slots: int) -> None:
        """Start everything, with one worker at each site.

        Raises:
            ChildFailed: A part did not come up. The parts that were started keep running: call `stop`.
        """
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        async with asyncio.TaskGroup() as parts:
            parts.create_task(self.proxy.start(), name="proxy")
            parts.create_task(self.relay.start(), name="relay")
        async with asyncio.TaskGroup() as parts:
            for site in sites:
                parts.create_task(self._add_worker(site, queue, slots), name=site)
        # A worker that polls later than the other one would find nothing left to do.
        await self.relay.child.wait_until(self._are_online, timeout_s=60)

    async def _are_online(self) -> bool:
        rows = (await self._edge_relay("workers", "list"))["items"]
        return {row["worker"] for row in rows if row["state"] == "online"} >= {
            worker.worker_name for worker in self.workers.values()
        }

    async def _add_worker(self, site: str, queue: str, slots: int) -> None:
        urls = {"relay": self.facts.url, "NATS": self.facts.nats_url}
        worker = self.workers[site] = EdgeWorker(
            site,
            self.directory / site,
            relay=self.facts,
            relay_url=self.facts.url,
            proxy=self.proxy,
            probes={name: "{}:{}".format(*host_and_port(url)) for name, url in urls.items()},
            slots=slots,
            extra={"EDGE_WORKER_COMMANDS": "*", "EDGE_WORKER_AUXILIARY_JOBS": ""},
        )
        await worker.enroll(await self.relay.enroll_token(queues=[queue], site=site))
        await worker.start()
        await worker.child.wait_until(worker.is_up, timeout_s=30)

    async def submit(self, queue: str, submissions: Sequence[Mapping[str, object]]) -> list[str]:
        """Submit a batch as a producer does; returns the ids of the jobs."""
        return list(await self._submit(queue, submissions, "--detach"))

    async def run_batch(self, queue: str, submissions: Sequence[Mapping[str, object]]) -> list[dict[str, Any]]:
        """Submit a batch, which with keys may be one that was submitted before; returns how all its jobs ended."""
        return list(await self._submit(queue, submissions))

    async def _submit(self, queue: str, submissions: Sequence[Mapping[str, object]], *options: str) -> Any:
        batch = self.directory / "batch.jsonl"
        batch.write_text("".join(f"{json.dumps(one)}\n" for one in submissions))
        return await self._edge_relay("submit", "--queue", queue, "--batch", str(batch), *options)

    async def unfinished(self, queue: str) -> int:
        """How many jobs of a queue have not ended."""
        return int((await self._edge_relay("jobs", "list", "--queue", queue, "--limit", "1"))["total"])

    async def _edge_relay(self, *arguments: str) -> Any:
        process = await asyncio.create_subprocess_exec(
            PROGRAMS / "edge-relay",
            *arguments,
            "--json",
            "--data-dir",
            str(self.facts.access_token_file.parents[1]),
            env=clean_environment(),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
        )
        output, _ = await process.communicate()
        if process.returncode != 0:
            msg = f"edge-relay {arguments[0]} ended with status {process.returncode}"
            raise RuntimeError(msg)
        return json.loads(output)

    async def stop(self) -> None:
        """Stop all parts, the edge first and the relay last. After a failed step the other steps still run."""
        edge = await asyncio.gather(*(worker.stop() for worker in self.workers.values()), return_exceptions=True)
        try:
            await stop_all([self.proxy.child])
        finally:
            await self.relay.stop()
        for problem in edge:
            if isinstance(problem, BaseException):
                raise problem
