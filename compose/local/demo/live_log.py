"""Measure how soon a printed line is in Airflow's log response while the task still runs."""

import asyncio
import time
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from local.system.airflow_api import ENDED, AirflowApi, ApiRefused


@dataclass
class LineDelays:
    """The delays of a task's log lines.

    Attributes:
        delays: Seconds between the printing of a line and the first response that contained it, by line. Only responses
            that arrived while the task was running count.
    """

    delays: dict[str, float] = field(default_factory=dict)

    @property
    def worst(self) -> float:
        """The longest delay; infinite if no line was seen."""
        return max(self.delays.values(), default=float("inf"))


async def watch_log(api: AirflowApi, dag: str, run: str, task: str, *, starts_with: str) -> LineDelays:
    """Read a task's log repeatedly from the task's start to its end.

    Args:
        api: Airflow's API.
        dag: Id of the DAG.
        run: Id of the run.
        task: Id of the task, which is not mapped.
        starts_with: Only lines that start with this text count.
    """
    found = LineDelays()
    path = f"dags/{dag}/dagRuns/{run}/taskInstances/{task}"
    while (instance := await api.get(path))["state"] not in ENDED:
        if instance["state"] != "running":
            await asyncio.sleep(0.1)
            continue
        try:
            lines = await api.log(dag, run, task, attempt=instance["try_number"])
        except ApiRefused:
            lines = []  # before the first line the log may not exist
        arrived = time.time()
        # A line counts only if the task was still running when the response had arrived.
        if (await api.get(path))["state"] == "running":
            _record(found, lines, arrived, starts_with)
        await asyncio.sleep(0.1)
    return found


def _record(found: LineDelays, lines: list[dict[str, Any]], arrived: float, starts_with: str) -> None:
    for line in lines:
        text, printed = str(line["event"]), line.get("timestamp")
        if text.startswith(starts_with) and printed and text not in found.delays:
            found.delays[text] = arrived - datetime.fromisoformat(printed).timestamp()
