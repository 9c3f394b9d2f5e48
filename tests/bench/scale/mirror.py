"""What a keeper or an executor keeps of the records, in a process of its own.

`python -m bench.scale.mirror ROLE URL` prints a line of JSON each time that it knows all unfinished jobs, with the time
and the CPU since it was connected.
"""

import asyncio
import json
import sys
import time
from collections.abc import Callable, Coroutine

import structlog

from edge_bridge.airflow.dispatch_table import STARTED, DispatchTable, Entry
from edge_bridge.executor.metrics import ExecutorMetrics
from edge_bridge.executor.reports import Reports
from edge_bridge.keeper.cluster_view import ClusterView
from edge_bridge.keeper.metrics import KeeperMetrics
from edge_broker.connection.broker import Broker
from edge_broker.connection.settings import BrokerSettings
from edge_broker.permissions import KEEPER
from edge_broker.record_mover import RecordMover
from edge_broker.records import RecordStore
from edge_broker.subjects import RECORDS_BUCKET
from edge_broker.watched_bucket import WatchedBucket
from support.nats.server import PASSWORDS, eventually

Mirror = tuple[Coroutine[None, None, None], Callable[[], bool], Callable[[], int]]
"""Its loop, whether it is complete, and how many jobs it knows."""


def _keeper(broker: Broker) -> Mirror:
    view = ClusterView(broker, RecordMover(RecordStore(broker)), KeeperMetrics().put_aside)
    return view.run(), lambda: view.complete, lambda: len(view.unfinished())


def _executor(broker: Broker) -> Mirror:
    """One that has handed out all of the jobs."""
    dispatches = DispatchTable()
    reports = Reports(dispatches, lambda _: None, lambda _: None, ExecutorMetrics().of(None))

    def follow(job: str, value: bytes | None) -> None:
        if dispatches.get(job) is None:
            dispatches.add([Entry(key=job, job=job, dispatch=job)])
        reports.on_record(job, value)

    watched = WatchedBucket(broker, RECORDS_BUCKET, follow)
    return watched.run(), watched.complete.is_set, lambda: len(dispatches.select(lambda entry: entry.state in STARTED))


async def _main(role: str, url: str) -> None:
    async with Broker(BrokerSettings((url,), role, PASSWORDS[role])) as broker:
        loop, is_complete, count = (_keeper if role == KEEPER else _executor)(broker)
        wall = cpu = 0.0

        def connected() -> None:
            nonlocal wall, cpu
            wall, cpu = time.perf_counter(), time.process_time()

        broker.on_connection(connected)
        async with asyncio.TaskGroup() as group:
            group.create_task(loop, name="mirror")
            while True:
                await eventually(is_complete, timeout_s=300)
                found = {"jobs": count(), "wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}
                print(json.dumps(found), flush=True)
                await eventually(lambda: not is_complete(), timeout_s=300)


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    asyncio.run(_main(sys.argv[1], sys.argv[2]))
