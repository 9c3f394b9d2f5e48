"""A trivial task through a warm task host, on a whole system: scheduler, NATS, relay, proxy, agent, Task SDK."""

import statistics
from datetime import datetime
from pathlib import Path

from bench import task_cost
from bench.figures import Row, percentile, tree_cpu_seconds
from local.system.airflow_api import wait_for_end
from local.system.system import LocalSystem, stop_completely

DAG = "bench"
DAGS = Path(__file__).parent / "dags"


async def measure(directory: Path) -> tuple[str, list[Row]]:
    """The section of the page."""
    system = LocalSystem(directory / "system", dags=[DAGS])
    try:
        await system.start(slots=task_cost.SLOTS)
        await system.airflow.children["dag-processor"].wait_until(lambda: system.api.has_dag(DAG), timeout_s=60)
        await _run(system)  # warms: the first task pays for imports and connections
        worker = next(iter(system.workers.values())).child.pid
        before = tree_cpu_seconds(worker)
        run = await _run(system)
        used = tree_cpu_seconds(worker) - before
        rows = await _rows(system, run, used)
        rows += await task_cost.measure(system, directory)
    finally:
        await stop_completely(system)
    return "A trivial task, queued to finished", rows


async def _run(system: LocalSystem) -> str:
    run = await system.api.trigger(DAG)
    state = await wait_for_end(system.api, DAG, run, timeout_s=180)
    assert state == "success", state
    return run


async def _rows(system: LocalSystem, run: str, used: float) -> list[Row]:
    instances = await system.api.task_instances(DAG, run)
    waits, totals = [], []
    for instance in instances:
        queued = datetime.fromisoformat(instance["queued_when"]).timestamp()
        began = float(await system.api.xcom(DAG, run, instance["task_id"]))
        waits.append(began - queued)
        totals.append(datetime.fromisoformat(instance["end_date"]).timestamp() - queued)
    tasks = len(instances)
    return [
        (f"queued → user code, median / p95 of {tasks}", _seconds(waits)),
        (f"queued → finished in Airflow, median / p95 of {tasks}", _seconds(totals)),
        (f"CPU of the worker (agent, task host and forks) per task, mean of {tasks}", f"{used / tasks:.2f} s"),
    ]


def _seconds(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} / {percentile(values, 0.95):.2f} s"
