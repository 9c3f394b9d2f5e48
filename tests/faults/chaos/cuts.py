"""One task behind a link of its own that is cut while the task's own code runs."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from typing import TypeVar

import aiohttp

from faults.chaos.airflow_db import AirflowDatabase
from faults.chaos.judge import Try
from faults.chaos.ledger import Ledger, Life
from local.system.airflow_api import ENDED, ApiRefused
from local.system.edge import EdgeWorker
from local.system.system import LocalSystem
from support.network.link import Cut, Link
from support.system.inspection import until

T = TypeVar("T")
_numbers = count(1)


@dataclass(frozen=True)
class Gap:
    """When nothing came through, by the wall clock, and what the centre had of the task's log at its end."""

    began: float
    ended: float
    lines_at_the_centre: int


@dataclass
class Watched:
    """A run of one of the `one_…` DAGs, whose task keeps a ledger."""

    system: LocalSystem
    dag: str
    run: str
    ledger: Ledger

    @classmethod
    async def begin(cls, system: LocalSystem, dag: str, *, seconds: int) -> "Watched":
        """Trigger it; its task works for so long."""
        await until(lambda: patient(lambda: system.api.has_dag(dag)), timeout_s=60, what=f"{dag} is parsed")
        ledger = Ledger(system.directory / f"{dag}-{time.time_ns()}.ledger")
        return cls(system, dag, await system.api.trigger(dag, ledger.conf(seconds=seconds)), ledger)

    @property
    def lives(self) -> list[Life]:
        """The processes of user code."""
        return self.ledger.lives(self.run)

    @property
    def tries(self) -> list[Try]:
        """As Airflow has them."""
        return AirflowDatabase(self.system.airflow.directory / "airflow.db").tries(self.dag, self.run)

    async def ran_for(self, seconds: float, *, timeout_s: float = 60) -> None:
        """Wait until user code of the first try has worked for so long."""

        async def has() -> bool:
            return any(life.last_seen - life.began >= seconds for life in self.lives)

        await until(has, timeout_s=timeout_s, what="user code runs")

    async def end(self, *, timeout_s: float) -> str:
        """The state in which the task ended for good."""

        async def ended() -> str | None:
            return next((each.state for each in self.tries if each.is_last and each.state in ENDED), None)

        return str(await until(ended, timeout_s=timeout_s, what="the task ends"))

    async def printed(self, *, attempt: int = 1) -> list[str]:
        """The lines `second N` that the centre has of a try."""
        lines = await patient(lambda: self.system.api.log(self.dag, self.run, "work_long", attempt=attempt))
        return [str(line["event"]) for line in lines if str(line["event"]).startswith("second ")]

    async def through(self, link: Link, *cuts: Cut, each_s: float) -> Gap:
        """Cut the link in these ways, one after another, and restore it."""
        began = time.time()
        for cut in cuts:
            await link.cut(cut)
            await asyncio.sleep(each_s)
        have = len(await self.printed())
        ended = time.time()
        await link.restore()
        return Gap(began, ended, have)


@asynccontextmanager
async def behind_a_link(
    system: LocalSystem, name: str, queue: str, *, relay_url: str | None = None, slots: int = 4
) -> AsyncIterator[tuple[Link, EdgeWorker]]:
    """A worker for a queue, with a link of its own to the relay."""
    name = f"{name}-{next(_numbers)}"  # its folder may be there from a test before
    async with Link.to(relay_url or system.relay_facts.url) as link:
        worker = await system.add_worker(name, [queue], relay_url=f"https://127.0.0.1:{link.port}", slots=slots)
        try:
            yield link, worker
        finally:
            await worker.stop()
            del system.workers[name]


async def patient(ask: Callable[[], Awaitable[T]], *, timeout_s: float = 60) -> T:
    """An answer of Airflow's, even if another test has just taken its api-server away."""
    async with asyncio.timeout(timeout_s):
        while True:
            try:
                return await ask()
            except (aiohttp.ClientError, ApiRefused, TimeoutError):
                await asyncio.sleep(0.5)
