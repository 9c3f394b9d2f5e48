"""Many short tasks that keep a ledger, and what is to be said of them at the end."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from faults.chaos.airflow_db import AirflowDatabase
from faults.chaos.judge import judge
from faults.chaos.ledger import Ledger
from local.system.system import LocalSystem
from support.system.inspection import until

QUEUE = "chaos"
RIGHT = "right"


@dataclass
class Trial:
    """One run of many tasks, and its judgement."""

    system: LocalSystem
    ledger: Ledger
    dag: str
    run: str

    @classmethod
    async def begin(cls, system: LocalSystem, folder: Path, *, tasks: int) -> Self:
        """Trigger it, and wait until a task runs."""
        dag, ledger = f"chaos_{tasks}", Ledger(folder / "ledger")
        await until(lambda: system.api.has_dag(dag), timeout_s=30)
        if not (await system.api.get("variables", variable_key_pattern="chaos"))["variables"]:
            await system.api.post("variables", {"key": "chaos", "value": RIGHT})
        trial = cls(system, ledger, dag, await system.api.trigger(dag, ledger.conf()))
        await until(trial.has_begun, timeout_s=60, what="a task runs")
        return trial

    async def has_begun(self) -> bool:
        """Whether a task runs, or ran."""
        return bool(self.ledger.lives(self.run))

    def over(self, *, timeout_s: float) -> Callable[..., bool]:
        """Answers whether all have ended, or the time is over."""
        deadline = time.monotonic() + timeout_s
        return lambda *_: time.monotonic() > deadline or self._unfinished() == 0

    async def prove(self, *, timeout_s: float) -> None:
        """Wait for the end of all, and judge."""
        over = self.over(timeout_s=timeout_s)
        while not over():  # noqa: ASYNC110  # a file is looked at
            await asyncio.sleep(0.5)
        tries = self._airflow.tries(self.dag, self.run)
        problems = judge(self.ledger.lives(self.run), tries, right=RIGHT)
        assert problems == [], "\n".join(problems)

    @property
    def _airflow(self) -> AirflowDatabase:
        return AirflowDatabase(self.system.airflow.directory / "airflow.db")

    def _unfinished(self) -> int:
        return self._airflow.unfinished(self.dag, self.run)
