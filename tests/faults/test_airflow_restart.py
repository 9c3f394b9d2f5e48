"""A machine is switched off under a task and on again: Airflow retries the task there at once."""

import json
import time
from datetime import datetime

import pytest

from faults.chaos.cuts import Watched
from local.system.edge import UnsandboxedWorker
from local.system.system import LocalSystem


@pytest.mark.soak
@pytest.mark.timeout(300)
async def test_what_a_dead_worker_had_is_retried_within_ten_seconds_of_its_restart(system: LocalSystem) -> None:
    name, queue = f"crashed-{time.time_ns()}", "patient"
    worker = await system.add_unsandboxed_worker(name, [queue])
    try:
        task = await Watched.begin(system, f"one_{queue}", seconds=120)
        await task.ran_for(1)
        await worker.crash()
        await worker.start()
        assert await task.end(timeout_s=60) == "success"
        first, second = task.lives
        assert second.began - _started_at(worker) <= 10
        assert (first.attempt, second.attempt) == (1, 2)
        assert [(each.number, each.state) for each in task.tries] == [(1, "failed"), (2, "success")]
    finally:
        await system.workers.pop(name).stop()


def _started_at(worker: UnsandboxedWorker) -> float:
    """When its last agent began to work."""
    lines = worker.child.log.read_text().splitlines()
    events = [json.loads(line) for line in lines if line.startswith("{")]
    started = [event for event in events if event["event"] == "worker_started"]
    return datetime.fromisoformat(started[-1]["timestamp"]).timestamp()
