"""The complete local system, started and stopped as one."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from local.processes.child import Child, stop_all
from local.system.airflow import BOTH_EXECUTORS, Airflow, Options
from local.system.airflow_api import AirflowApi
from local.system.edge import EdgeWorker, UnsandboxedWorker
from local.system.proxy import ForwardProxy, host_and_port
from local.system.relay import Relay, RelayFacts, Replica

QUEUE = "plant"
Report = Callable[[str], None]
Worker = TypeVar("Worker", bound=EdgeWorker)


def _no_report(_: str) -> None:
    pass


class LocalSystem:
    """NATS, relay, Airflow, keeper, forward proxy and edge workers, all in one folder.

    Attributes:
        workers: The edge workers, by the name they were added with.
        replicas: Further relays, by the name they were added with.
    """

    def __init__(
        self,
        directory: Path,
        *,
        dags: Sequence[Path],
        executor: str = BOTH_EXECUTORS,
        options: Options | None = None,
        schedulers: int = 1,
        keepers: int = 1,
    ) -> None:
        """Choose ports and secrets; nothing is started yet.

        Args:
            directory: Folder for everything that the system writes.
            dags: Folders with DAG files, for Airflow and for every worker.
            executor: Value of Airflow's `[core] executor`.
            options: Further options of Airflow, by section and name. They override the options set by the system.
            schedulers: Number of schedulers; more than one needs another database than SQLite.
            keepers: Number of keepers.
        """
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
        """Addresses and files of the relay, which must have been started."""
        assert self.relay.facts is not None
        return self.relay.facts

    @property
    def children(self) -> list[Child]:
        """All child processes, in the order of their start."""
        workers = [worker.child for worker in self.workers.values()]
        replicas = [replica.child for replica in self.replicas.values()]
        return [self.relay.child, *replicas, self.proxy.child, *self.airflow.children.values(), *workers]

    async def start(
        self, report: Report = _no_report, *, worker: str = "edge-1", queues: Sequence[str] = (QUEUE,), slots: int = 4
    ) -> None:
        """Start the system with one worker, and return when tasks can run.

        Args:
            report: Called with a message when a part is up.
            worker: Name of the worker.
            queues: The queues that the worker serves.
            slots: How many tasks the worker runs at once.

        Raises:
            ChildFailed: A part did not come up. The parts that were started keep running: call `stop`.
        """
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        async with asyncio.TaskGroup() as parts:
            database = parts.create_task(self.airflow.prepare(), name="database")
            edge = parts.create_task(self._start_edge(report, worker, queues, slots), name="edge")
            await database
            report("Airflow's database is ready")
            relay = await edge
            await self.airflow.start(relay)
        await self.airflow.children["api-server"].wait_until(self._is_airflow_ready, timeout_s=180)
        report("Airflow is up: api-server, scheduler, dag-processor, triggerer, keeper")

    async def _start_edge(self, report: Report, worker: str, queues: Sequence[str], slots: int) -> RelayFacts:
        async with asyncio.TaskGroup() as parts:
            parts.create_task(self.proxy.start(), name="proxy")
            relay = await parts.create_task(self.relay.start(), name="relay")
        report("relay, NATS and forward proxy are up")
        added = await self.add_worker(worker, queues, slots=slots)
        report(f"edge worker {added.worker_name} is up in its network sandbox ({added.sandbox.kind})")
        return relay

    async def _is_airflow_ready(self) -> bool:
        for child in self.airflow.children.values():
            if child.name != "db-migrate":
                child.check_running()
        return await self.airflow.is_ready()

    async def add_worker(
        self,
        name: str,
        queues: Sequence[str],
        *,
        relay_url: str | None = None,
        slots: int = 4,
        extra: Mapping[str, str] | None = None,
    ) -> EdgeWorker:
        """Enroll and start one more worker.

        Args:
            name: Name of its site and of its folder.
            queues: The queues that it serves.
            relay_url: Another URL than the relay's own, if the worker reaches the relay through a test's link.
            slots: How many tasks it runs at once.
            extra: Further environment variables.
        """
        return await self._add(EdgeWorker, name, queues, relay_url=relay_url, slots=slots, extra=extra)

    async def add_unsandboxed_worker(
        self,
        name: str,
        queues: Sequence[str],
        *,
        relay_url: str | None = None,
        slots: int = 4,
        extra: Mapping[str, str] | None = None,
    ) -> UnsandboxedWorker:
        """Enroll and start a worker without a sandbox, whose agent can be killed alone. Arguments as `add_worker`."""
        return await self._add(UnsandboxedWorker, name, queues, relay_url=relay_url, slots=slots, extra=extra)

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
        await worker.enroll(token)
        await worker.start()
        await worker.child.wait_until(worker.is_up, timeout_s=30)
        return worker

    async def add_replica(self, name: str = "relay-2") -> Replica:
        """Start one more relay. A worker that is added with the replica's `url` uses no other relay."""
        replica = self.replicas[name] = self.relay.replica(name)
        await replica.start()
        return replica

    def _probes(self) -> dict[str, str]:
        urls = {"relay": self.relay_facts.url, "NATS": self.relay_facts.nats_url}
        return {name: "{}:{}".format(*host_and_port(url)) for name, url in urls.items()}

    async def cut(self) -> None:
        """Cut off every edge site: stop the proxy, which breaks all connections through it."""
        await self.proxy.stop()

    async def restore(self) -> None:
        """Start the proxy again after `cut`."""
        await self.proxy.start()

    async def wait_for_exit(self) -> Child:
        """Wait until one of the children ends, and return this child."""
        waits = {asyncio.create_task(child.wait(), name=child.name): child for child in self.children if child.running}
        try:
            done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            return waits[done.pop()]
        finally:
            for wait in waits:
                wait.cancel()

    async def stop(self) -> None:
        """Stop all started parts, the edge first and the relay last. After a failed step the other steps still run."""
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


async def stop_completely(system: LocalSystem) -> None:
    """Stop a system, even if the caller is cancelled meanwhile: the first cancellation does not interrupt the stop."""
    stopping = asyncio.create_task(system.stop(), name="stop")
    with suppress(asyncio.CancelledError):
        await asyncio.shield(stopping)
    await stopping
