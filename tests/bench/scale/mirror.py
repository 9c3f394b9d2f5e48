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
from edge_broker.watched_bucket import OnComplete, WatchedBucket
from support.nats.server import PASSWORDS

Mirror = tuple[Coroutine[None, None, None], Callable[[], int]]
"""Its loop, and how many jobs it knows."""


def _keeper(broker: Broker, on_complete: OnComplete) -> Mirror:
    mover = RecordMover(RecordStore(broker))
    view = ClusterView(broker, mover, KeeperMetrics().put_aside, on_complete=on_complete)
    return view.run(), lambda: len(view.unfinished())


def _executor(broker: Broker, on_complete: OnComplete) -> Mirror:
    """One that has handed out all of the jobs."""
    dispatches = DispatchTable()
    reports = Reports(dispatches, lambda _: None, lambda _: None, ExecutorMetrics().of(None))

    def follow(job: str, value: bytes | None) -> None:
        if dispatches.get(job) is None:
            dispatches.add([Entry(key=job, job=job, dispatch=job)])
        reports.on_record(job, value)

    watched = WatchedBucket(broker, RECORDS_BUCKET, follow, on_complete=on_complete)
    return watched.run(), lambda: len(dispatches.select(lambda entry: entry.state in STARTED))


async def _main(role: str, url: str) -> None:
    async with Broker(BrokerSettings((url,), role, PASSWORDS[role])) as broker:
        wall = cpu = 0.0

        def connected() -> None:
            nonlocal wall, cpu
            wall, cpu = time.perf_counter(), time.process_time()

        def complete() -> None:
            """After a cut, a watch that continues is incomplete for milliseconds: only an event shows it."""
            found = {"jobs": count(), "wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}
            print(json.dumps(found), flush=True)

        broker.on_connection(connected)
        loop, count = (_keeper if role == KEEPER else _executor)(broker, complete)
        await loop


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    asyncio.run(_main(sys.argv[1], sys.argv[2]))
