"""How soon a printed line is in Airflow's log answer while the task still runs."""

import asyncio
import time
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from local.system.airflow_api import ENDED, AirflowApi, ApiRefused


@dataclass
class Watched:
    """What a watcher saw.

    Attributes:
        delays: Seconds between the printing of a line and the answer that held it first, by line; only of answers that
            came while the task was running.
    """

    delays: dict[str, float] = field(default_factory=dict)

    @property
    def worst(self) -> float:
        """The longest delay; endless if nothing was seen."""
        return max(self.delays.values(), default=float("inf"))


async def watch(api: AirflowApi, dag: str, run: str, task: str, *, starts_with: str) -> Watched:
    """Read a task's log over and over from its start to its end.

    Args:
        api: Airflow's API.
        dag: The DAG.
        run: Its run.
        task: The task, which is not mapped.
        starts_with: Which lines count.
    """
    watched = Watched()
    path = f"dags/{dag}/dagRuns/{run}/taskInstances/{task}"
    while (found := await api.get(path))["state"] not in ENDED:
        if found["state"] != "running":
            await asyncio.sleep(0.1)
            continue
        try:
            lines = await api.log(dag, run, task, attempt=found["try_number"])
        except ApiRefused:
            lines = []  # before its first line there may be no log
        arrived = time.time()
        # A line counts only if the task was still running when the answer had come.
        if (await api.get(path))["state"] == "running":
            _note(watched, lines, arrived, starts_with)
        await asyncio.sleep(0.1)
    return watched


def _note(watched: Watched, lines: list[dict[str, Any]], arrived: float, starts_with: str) -> None:
    for line in lines:
        text, printed = str(line["event"]), line.get("timestamp")
        if text.startswith(starts_with) and printed and text not in watched.delays:
            watched.delays[text] = arrived - datetime.fromisoformat(printed).timestamp()
