"""The whole system: what runs, started and stopped as one."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from local.processes.child import Child, stop_all
from local.system.airflow import BOTH_EXECUTORS, Airflow, Options
from local.system.airflow_api import AirflowApi
from local.system.edge import EdgeWorker, OpenWorker
from local.system.proxy import ForwardProxy, host_and_port
from local.system.relay import Relay, RelayFacts, Replica

QUEUE = "plant"
Say = Callable[[str], None]
Worker = TypeVar("Worker", bound=EdgeWorker)


def _silent(_: str) -> None:
    pass


class LocalSystem:
    """NATS, relay, Airflow, keeper, forward proxy and edge workers below one folder.

    Attributes:
        api: Airflow's REST API as the user `admin`.
        workers: By the name they were added with.
        replicas: Relays beside the first, likewise.
    """

    def __init__(
        self,
        directory: Path,
        *,
        executor: str = BOTH_EXECUTORS,
        dags: Sequence[Path],
        options: Options | None = None,
        schedulers: int = 1,
        keepers: int = 1,
    ) -> None:
        """`options` are Airflow's, by section and name, and win; two schedulers need another database than SQLite."""
        self.directory = directory.resolve()
        self.dags = tuple(dags)
        self.relay = Relay(self.directory / "relay", keepers=keepers)
        self.airflow = Airflow(
            self.directory / "centre",
            self.dags,
            executor=executor,
            gate_ports=self.relay.gate_ports,
            auxiliary_queue=QUEUE,
            options=options,
            schedulers=schedulers,
        )
        self.proxy = ForwardProxy(self.directory / "proxy")
        self.workers: dict[str, EdgeWorker] = {}
        self.replicas: dict[str, Replica] = {}

    @property
    def api(self) -> AirflowApi:
        """Airflow's REST API as the user `admin`."""
        return self.airflow.api

    @property
    def relay_facts(self) -> RelayFacts:
        """Where the relay is; it has been started."""
        assert self.relay.facts is not None
        return self.relay.facts

    @property
    def children(self) -> list[Child]:
        """What runs, in the order of its start."""
        workers = [worker.child for worker in self.workers.values()]
        replicas = [replica.child for replica in self.replicas.values()]
        return [self.relay.child, *replicas, self.proxy.child, *self.airflow.children.values(), *workers]

    async def start(
        self, say: Say = _silent, *, worker: str = "edge-1", queues: Sequence[str] = (QUEUE,), slots: int = 4
    ) -> None:
        """Start everything, with one worker, and return when tasks can run.

        Args:
            say: Told what has come up.
            worker: Name of the worker.
            queues: Which it serves.
            slots: How many tasks it runs at once.

        Raises:
            ChildFailed: A part did not come up. What had been started runs on: call `stop`.
        """
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        async with asyncio.TaskGroup() as parts:
            database = parts.create_task(self.airflow.prepare(), name="database")
            edge = parts.create_task(self._start_edge(say, worker, queues, slots), name="edge")
            await database
            say("Airflow's database is made")
            relay = await edge
            await self.airflow.start(relay)
        await self.airflow.children["api-server"].until(self._ready, timeout_s=180)
        say("Airflow is up: api-server, scheduler, dag-processor, triggerer, keeper")

    async def _start_edge(self, say: Say, worker: str, queues: Sequence[str], slots: int) -> RelayFacts:
        async with asyncio.TaskGroup() as parts:
            parts.create_task(self.proxy.start(), name="proxy")
            relay = await parts.create_task(self.relay.start(), name="relay")
        say("relay, NATS and forward proxy are up")
        added = await self.add_worker(worker, queues, slots=slots)
        say(f"edge worker {added.worker_name} is up in its box ({added.facts.kind})")
        return relay

    async def _ready(self) -> bool:
        for child in self.airflow.children.values():
            if not child.running and child.name != "db-migrate":
                await child.until(self._never, timeout_s=0)  # says how it ended
        return await self.airflow.ready()

    async def _never(self) -> bool:
        return False

    async def add_worker(
        self,
        name: str,
        queues: Sequence[str],
        *,
        relay_url: str | None = None,
        slots: int = 4,
        extra: Mapping[str, str] | None = None,
    ) -> EdgeWorker:
        """Enrol and start one more worker.

        Args:
            name: Of its site and its folder.
            queues: Which it serves.
            relay_url: If not the relay's own: somebody between the two.
            slots: How many tasks it runs at once.
            extra: Further variables of its environment.
        """
        return await self._add(EdgeWorker, name, queues, relay_url=relay_url, slots=slots, extra=extra)

    async def add_open_worker(
        self,
        name: str,
        queues: Sequence[str],
        *,
        relay_url: str | None = None,
        slots: int = 4,
        extra: Mapping[str, str] | None = None,
    ) -> OpenWorker:
        """Enrol and start one without walls, whose agent can be killed alone; otherwise as `add_worker`."""
        return await self._add(OpenWorker, name, queues, relay_url=relay_url, slots=slots, extra=extra)

    async def _add(
        self,
        kind: type[Worker],
        name: str,
        queues: Sequence[str],
        *,
        relay_url: str | None,
        slots: int,
        extra: Mapping[str, str] | None,
    ) -> Worker:
        token = await self.relay.enroll_token(queues=queues, site=name)
        worker = kind(
            name,
            self.directory / name,
            relay=self.relay_facts,
            relay_url=relay_url or self.relay_facts.url,
            proxy=self.proxy,
            probes=self._probes(),
            slots=slots,
            extra=extra,
        )
        self.workers[name] = worker
        await worker.enroll(token, self.dags)
        await worker.start()
        await worker.child.until(worker.up, timeout_s=30)
        return worker

    async def add_replica(self, name: str = "relay-2") -> Replica:
        """Start one more relay. A worker that is added with its `url` uses no other."""
        replica = self.replicas[name] = self.relay.replica(name)
        await replica.start()
        return replica

    def _probes(self) -> dict[str, str]:
        urls = {"relay": self.relay_facts.url, "NATS": self.relay_facts.nats_url}
        return {name: "{}:{}".format(*host_and_port(url)) for name, url in urls.items()}

    async def cut(self) -> None:
        """Cut every edge off: the proxy goes, and all connections through it."""
        await self.proxy.stop()

    async def restore(self) -> None:
        """Bring the proxy back."""
        await self.proxy.start()

    async def died(self) -> Child:
        """The first of the children that ends by itself."""
        waits = {asyncio.create_task(child.wait(), name=child.name): child for child in self.children if child.running}
        try:
            done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            return waits[done.pop()]
        finally:
            for wait in waits:
                wait.cancel()

    async def stop(self) -> None:
        """Stop everything that was started: the edge first, the relay last. Does all of it even if a step fails."""
        problems = []
        edge = asyncio.gather(*(worker.stop() for worker in self.workers.values()), return_exceptions=True)
        problems += [each for each in await edge if isinstance(each, BaseException)]
        for step in (self.airflow.stop, self.proxy.stop, self._stop_replicas, self.relay.stop):
            try:
                await step()
            except (OSError, TimeoutError) as problem:
                problems.append(problem)
        if problems:
            raise problems[0]

    async def _stop_replicas(self) -> None:
        await stop_all([replica.child for replica in self.replicas.values()])


async def stopped(system: LocalSystem) -> None:
    """Stop a system even if whoever waits for it is told to hurry: a cancelled caller waits for the end once more."""
    stopping = asyncio.create_task(system.stop(), name="stop")
    with suppress(asyncio.CancelledError):
        await asyncio.shield(stopping)
    await stopping
