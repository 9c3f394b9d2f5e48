"""Tasks of different lengths, so that one is at each step of its life whenever a part of the system goes."""

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from faults.chaos.ledger import Ledger
from local.processes.child import Child
from local.system.airflow_api import wait_for_end
from local.system.system import LocalSystem
from support.nats.server import eventually
from support.system.inspection import until

DAG = "steady"
LENGTHS = [2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24]
"""Run times of the tasks in seconds, so that tasks begin and end all the time."""
_number = count(1)


@dataclass
class Tasks:
    """Tasks of all these lengths, and what they wrote down."""

    system: LocalSystem
    ledger: Ledger
    run: str

    async def stir(self) -> None:
        """Wait until one more task has begun or ended, unless all have."""
        before = len(self.ledger.lines())
        await eventually(lambda: self.done or len(self.ledger.lines()) > before, timeout_s=180, what="a task moves on")

    @property
    def done(self) -> bool:
        """Whether every task has written its last line."""
        return sum(life.events[-1] == "end" for life in self.ledger.lives()) == len(LENGTHS)

    async def end_well(self) -> None:
        """Wait for the end, and judge: nothing was done twice, and nothing counted as a failure."""
        await until(self.system.airflow.is_ready, timeout_s=120, what="Airflow is back")
        assert await wait_for_end(self.system.api, DAG, self.run, timeout_s=120) == "success"
        lives = self.ledger.lives()
        assert [life.events for life in lives] == [("begin", "end")] * len(LENGTHS)
        assert len({life.instance for life in lives}) == len(LENGTHS)
        found = await self.system.api.task_instances(DAG, self.run)
        assert {(ti["state"], ti["try_number"]) for ti in found} == {("success", 1)}


@asynccontextmanager
async def tasks(system: LocalSystem, folder: Path) -> AsyncIterator[Tasks]:
    """The tasks, some of them running, on a worker of their own."""
    name = f"steady-{next(_number)}"
    worker = await system.add_worker(name, ["steady"], slots=len(LENGTHS))
    try:
        await until(lambda: system.api.has_dag(DAG), timeout_s=40)
        ledger = Ledger(folder / "ledger")
        run = await system.api.trigger(DAG, ledger.conf(seconds=LENGTHS))
        started = Tasks(system, ledger, run)
        await eventually(lambda: len(ledger.lives()) >= len(LENGTHS) // 2, timeout_s=90, what="half of the tasks run")
        yield started
    finally:
        await worker.stop()
        del system.workers[name]


async def crash(child: Child) -> None:
    """Gone without a word, and back."""
    await child.crash()
    await child.start()


async def restart(child: Child) -> None:
    """Told to stop, and started again."""
    await child.stop(grace_s=30)
    await child.start()


async def crash_nats(system: LocalSystem) -> None:
    """Gone without a word; the relay's process brings it back."""
    old = system.relay.nats_pid
    assert old is not None
    os.kill(old, signal.SIGKILL)
    await eventually(lambda: system.relay.nats_pid not in {old, None}, timeout_s=30, what="NATS is back")


async def crash_relay(system: LocalSystem) -> None:
    """Gone without a word, NATS with it, and back."""
    await system.relay.child.crash()
    await system.relay.start()


async def restart_relay(system: LocalSystem) -> None:
    """Told to stop, NATS too, and started again."""
    await system.relay.stop()
    await system.relay.start()
