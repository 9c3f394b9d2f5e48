"""A system of real parts under load, with something of everything that dashboards show.

Two relays, a keeper, an executor in a scheduler, NATS and two agents are real; Airflow's API and its rows for what the
agents run are a stand-in. Further workers are reduced to their calls. What cannot be had in seconds is not there: a
scheduler that died, a pull that failed.
"""

import asyncio
import importlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from edge_broker.layout import ensure_consumer
from edge_broker.permissions import EXECUTOR
from edge_relay.jobs import release
from edge_relay.metrics import shared
from edge_relay.standalone import nats_config, nats_server
from edge_schemas.life.events import Finish, Start
from edge_schemas.life.model import JobState
from edge_schemas.wire.jobs import Job, JobKind, TaskIdentity, TaskWork
from edge_schemas.wire.workers import SecretKind, new_secret
from support.airflow import airflow_home
from support.airflow.fake_airflow import FakeTask
from support.nats.server import PASSWORDS, eventually
from support.relay.agents import Agent
from support.system.site import Machine, Site, enrolled, machine, running_site

UNSERVED = "nobody"
SIMULATED = "simulated"


@dataclass
class BusySystem:
    """The running parts and their jobs.

    Attributes:
        machine: A real worker that runs tasks.
        agents: Workers reduced to their calls, all for one queue.
        executor_port: Where the executor gives its metrics.
        jobs: The ids of all jobs so far.
    """

    site: Site
    machine: Machine
    agents: list[Agent]
    executor: Any
    scheduler: airflow_home.Scheduler
    executor_port: int
    jobs: set[str] = field(default_factory=set)

    @property
    def targets(self) -> dict[str, list[str]]:
        """Host and port of each process that gives metrics, by the name of its scrape job."""
        return {
            "relay": [urlsplit(relay.operators_url).netloc for relay in self.site.edge.relays],
            "keeper": [f"127.0.0.1:{self.site.keeper_settings.gate_port}"],
            "executor": [f"127.0.0.1:{self.executor_port}"],
        }

    async def work(self, tasks: int, simulated: int) -> None:
        """Run so many tasks on the real worker and so many jobs on the others, to their end."""
        real = [self._of_machine(parts=1, pause_s=0, lines=5) for _ in range(tasks)]
        for job in real:
            await self.site.publish(job)
        await asyncio.gather(*(self._work_of(agent, simulated // len(self.agents)) for agent in self.agents))
        for job in real:
            record = await self.site.ended(job)
            assert record.outcome is not None
            assert record.outcome.verdict == "succeeded", record.outcome

    async def _work_of(self, agent: Agent, number: int) -> None:
        for _ in range(number):
            await self.site.publish(self.simulated())
            [grant] = await agent.grants()
            assert (await agent.start(grant)).status == 204
            assert (await agent.finish(grant["job"]["id"], exit_code=1)).status == 204

    def _of_machine(self, task_id: str = "step", **conf: Any) -> Job:
        job = self.site.prepare(self.machine, task_id, **conf)
        self.jobs.add(job.id)
        return job

    def simulated(self) -> Job:
        """A job for the workers that are reduced to their calls; Airflow knows it."""
        task = self.site.airflow.add("step", {})
        work = TaskWork(task=task.identity, workload={}, core_executor="LocalExecutor")
        self.jobs.add(task.dispatch)
        return Job(id=task.dispatch, queue=SIMULATED, work=work, published_at=datetime.now(UTC))

    async def begin_a_long_task(self) -> None:
        """One that runs until the end, so that the keeper beats for it."""
        job = await self.site.publish(self._of_machine("until_told", result=1))
        await self.site.began(job)

    async def have_everything_happen(self) -> None:
        """Add what load alone does not bring: parked, lost, unwanted, released, never served, reported to Airflow."""
        first, second, third, fourth = self.agents
        await self._park(first)  # alone, or others would be offered what it releases
        await asyncio.gather(self._lose(second), self._stop(third), self._give_back(fourth), self._publish_unserved())

    async def _granted(self, agent: Agent) -> dict[str, Any]:
        await self.site.publish(self.simulated())
        [grant] = await agent.grants()
        return grant

    async def _park(self, agent: Agent) -> None:
        await self.site.publish(self.simulated())
        for _ in range(5):
            [grant] = await agent.grants()
            assert (await agent.release(grant)).status == 204

    async def _lose(self, agent: Agent) -> None:
        """The agent returns without its job, which is given up: it waits again, because no user code had run."""
        grant = await self._granted(agent)
        assert (await agent.start(grant)).status == 204
        anew = agent.again()
        self.agents[self.agents.index(agent)] = anew
        poll = asyncio.create_task(anew.poll(free=0))
        await self._reaches(grant["job"]["id"], JobState.WAITING)
        poll.cancel()
        await asyncio.wait({poll})

    async def _stop(self, agent: Agent) -> None:
        """Airflow no longer wants a job that runs; its worker does not know yet."""
        grant = await self._granted(agent)
        assert (await agent.start(grant)).status == 204
        ti_id = grant["job"]["work"]["task"]["ti_id"]
        self.site.airflow.tasks[ti_id].state = "failed"
        await self._reaches(grant["job"]["id"], JobState.STOPPING)

    async def _give_back(self, agent: Agent) -> None:
        """A job whose user code never ran; it waits again, without a message, as its executor is not there."""
        grant = await self._granted(agent)
        assert (await agent.start(grant)).status == 204
        job = grant["job"]["id"]
        assert (await agent.finish(job, release=True, receipt=grant["receipt"])).status == 204

    async def _reaches(self, job: str, state: JobState) -> None:
        async def reached() -> bool:
            record = await self.site.edge.records.get(job)
            return record is not None and record.state is state

        await eventually(reached, timeout_s=30, what=f"{job} is {state}")

    async def _publish_unserved(self) -> None:
        """Three tasks go through the executor into a queue that no worker serves; one of them ends all the same."""
        with airflow_home.dag_run(3, queue=UNSERVED) as dag:
            while self.scheduler.queue():
                pass
            rows = airflow_home.task_rows(dag.dag_id)
            for name, row in rows.items():
                identity = TaskIdentity(
                    ti_id=str(row.id), dag_id=dag.dag_id, task_id=name, run_id="r", try_number=row.try_number
                )
                self.site.airflow.tasks[identity.ti_id] = FakeTask(identity, row.external_executor_id, {})
                self.jobs.add(row.external_executor_id)
            self.scheduler.beat()
            one = rows["t0"].external_executor_id
            await self._reaches(one, JobState.WAITING)
            await self.site.edge.records.change(one, Start("somebody", 1, datetime.now(UTC)))
            await self.site.edge.records.change(one, Finish("somebody", 1, None, datetime.now(UTC)))

            def reported() -> bool:
                self.scheduler.beat()
                return bool(airflow_home.task_rows(dag.dag_id)["t0"].state == "failed")

            await eventually(reported, timeout_s=20, what="the end of a task is reported")


@asynccontextmanager
async def busy_system(root: Path, patch: pytest.MonkeyPatch) -> AsyncIterator[BusySystem]:
    """Everything started, and nothing run yet; what takes minutes in production takes seconds.

    Args:
        patch: Undone by the caller.
    """
    patch.setattr(shared, "REFRESH_EVERY_S", 0.5)
    patch.setattr(release, "MAX_RELEASE_DELAY_S", 0.01)
    room = partial(nats_config.render_config, max_store_bytes=8 << 30)
    patch.setattr(nats_server, "render_config", room)
    airflow_home.create_tables()
    async with AsyncExitStack() as stack:
        site = await stack.enter_async_context(running_site(root / "site", heartbeat_timeout_s=3))
        site.edge.relays.append(await stack.enter_async_context(site.other_relay()))
        await ensure_consumer(site.broker, None, SIMULATED, JobKind.TASK)
        worker = stack.enter_context(machine(site, await enrolled(site), root / "edge-1", slots=8))
        idle = stack.enter_context(machine(site, await enrolled(site), root / "edge-2"))
        for each in (worker, idle):
            await each.start()
            stack.push_async_callback(each.kill_all)  # and wait for it, in the loop that it was started in
        # Airflow reads files while it is imported, which the event loop must not do.
        await asyncio.to_thread(importlib.import_module, "edge_bridge.executor.relay_executor")
        executor, scheduler, port = _executor(site.server.url, patch)
        stack.callback(executor.terminate)
        agents = [
            Agent(site.edge, await site.edge.worker(queue=SIMULATED, site=f"site-{number % 2}"), replica=1)
            for number in range(4)
        ]
        system = BusySystem(site, worker, agents, executor, scheduler, port)
        yield system


def _executor(nats_url: str, patch: pytest.MonkeyPatch) -> tuple[Any, airflow_home.Scheduler, int]:
    from edge_bridge.executor import metrics_listener
    from edge_bridge.executor.metrics import process_metrics
    from edge_bridge.executor.relay_executor import RelayExecutor

    process_metrics.cache_clear()
    settings = {
        "AIRFLOW__API_AUTH__JWT_SECRET": new_secret(SecretKind.WORKER) * 2,
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__EDGE_RELAY__NATS_URLS": nats_url,
        "AIRFLOW__EDGE_RELAY__EXECUTOR_PASSWORD": PASSWORDS[EXECUTOR],
        "AIRFLOW__EDGE_RELAY__RECONCILE_INTERVAL": "3600",
        "AIRFLOW__EDGE_RELAY__METRICS_HOST": "127.0.0.1",
        "AIRFLOW__EDGE_RELAY__METRICS_PORT": "0",
    }
    for name, value in settings.items():
        patch.setenv(name, value)
    executor = RelayExecutor()
    executor.start()
    assert metrics_listener._server is not None
    return executor, airflow_home.Scheduler(executor), metrics_listener._server.server_port
