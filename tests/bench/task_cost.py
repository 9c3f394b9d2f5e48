"""What a trivial task costs each process: 200 mapped tasks on one worker of a whole system."""

import re
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import aiohttp

from bench.figures import Row, cpu_seconds, tree_cpu_seconds
from bench.relay import cost_at_a_pace, cost_of_calls, stand
from edge_schemas.wire import routes
from local.system.airflow_api import wait_for_end
from local.system.system import LocalSystem

DAG = "bench_mapped"
TASKS = 200
SLOTS = 8
_CALLS = re.compile(r'edge_relay_requests_total\{route="([^"]+)",status="(\d+)"\} (\S+)')


async def measure(system: LocalSystem, directory: Path) -> list[Row]:
    """Run the tasks once, and the three calls of a task by themselves on a relay of their own."""
    await system.airflow.children["dag-processor"].wait_until(lambda: system.api.has_dag(DAG), timeout_s=60)
    before, calls, began = _cpu(system), await _calls(system), time.monotonic()
    run = await system.api.trigger(DAG)
    state = await wait_for_end(system.api, DAG, run, timeout_s=600)
    assert state == "success", state
    used = {name: seconds - before[name] for name, seconds in _cpu(system).items()}
    pace_s = (time.monotonic() - began) / TASKS
    made = await _calls(system)
    made.subtract(calls)
    async with stand(directory / "calls") as alone:
        crowded = sum((await cost_of_calls(alone)).values())
        three = await cost_at_a_pace(alone, callers=SLOTS, jobs=TASKS, pace_s=pace_s)
    relay = used["relay"] / TASKS
    return [
        *((f"{name}, CPU per task, mean of {TASKS}", _ms(seconds / TASKS)) for name, seconds in used.items()),
        (f"relay, a poll with a grant, a start and a finish alone, {1 / pace_s:.1f} jobs/s as above", _ms(three)),
        ("relay, the same three calls by 32 callers at once", _ms(crowded)),
        (
            "relay, a task in proportion to the three calls at its pace / at once",
            f"{relay / three:.1f} / {relay / crowded:.1f}",
        ),
        (f"calls of the relay per task, on {SLOTS} slots", _text(made)),
    ]


def _cpu(system: LocalSystem) -> dict[str, float]:
    """CPU seconds of each process so far."""
    nats = system.relay.nats_pid
    assert nats is not None
    airflow = system.airflow.children
    return {
        "relay": cpu_seconds(system.relay.child.pid),
        "nats-server": cpu_seconds(nats),
        "keeper": tree_cpu_seconds(airflow["keeper"].pid),
        "scheduler": tree_cpu_seconds(airflow["scheduler"].pid),
        "api-server": tree_cpu_seconds(airflow["api-server"].pid),
        "worker": sum(tree_cpu_seconds(worker.child.pid) for worker in system.workers.values()),
    }


async def _calls(system: LocalSystem) -> Counter[tuple[str, str]]:
    """How many calls the relay has answered, by route and status."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(system.relay_facts.operator_url + routes.METRICS, raise_for_status=True) as answer,
    ):
        text = await answer.text()
    return Counter({(route, status): int(float(number)) for route, status, number in _CALLS.findall(text)})


def _text(calls: Mapping[tuple[str, str], int]) -> str:
    shown = sorted(calls.items(), key=lambda item: -item[1])
    return ", ".join(
        f"{route.rpartition('/')[2] or route} {status}: {number / TASKS:.1f}"
        for (route, status), number in shown
        if number >= TASKS / 10
    )


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.1f} ms"
