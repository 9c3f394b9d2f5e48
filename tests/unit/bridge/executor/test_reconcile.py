"""What one dispatch may not do to the comparison of all others."""

from typing import Any

import pytest

from edge_bridge.airflow.dispatch_table import DispatchTable, Entry, Report, Verb
from edge_bridge.airflow.mapping import JobMaker, Row
from edge_bridge.airflow.queues import QueueRules, Queues
from edge_bridge.executor.metrics import ExecutorMetrics
from edge_bridge.executor.publisher import Publisher
from edge_bridge.executor.reconcile.reconciler import Reconciler
from edge_bridge.executor.reports import UNREADABLE_S, Reports
from edge_bridge.tracing import CentreJobSpans
from edge_broker.bundles.mirror import BundleMirror
from edge_broker.records import parse_record
from edge_schemas.life.model import JobRecord
from edge_schemas.wire.offline import OfflinePolicy
from edge_service.tracing import Spans
from edge_upkeep.order.demand import Demand
from edge_upkeep.order.queue_order import QueueOrder
from edge_upkeep.order.rank import rank
from support.relay.jobs import make_job
from support.signing.keys import UNSIGNED


async def test_a_record_of_another_version_holds_nobody_up_and_fails_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Executor, keeper and relay are not upgraded in one moment; but nothing waits for ever."""
    dispatches = DispatchTable()
    reports = Reports(dispatches, lambda _: None, lambda _: None, ExecutorMetrics().of(None))
    maker = JobMaker("", None, Queues(QueueRules(OfflinePolicy())), {})
    metrics = ExecutorMetrics().of(None)
    order = QueueOrder(rank, Demand(), lambda _, queue: dispatches.started_in(queue), lambda *_: 4)
    publisher = Publisher(
        reports.refuse,
        lambda _: None,
        order,
        metrics,
        CentreJobSpans(Spans()),
        published=BundleMirror(),
        bundle_wait_s=60,
    )
    reconciler = Reconciler(
        dispatches,
        publisher,
        reports,
        interval_s=30,
        maker=maker,
        name=None,
        metrics=metrics,
        trust=UNSIGNED,
        settle_s=0,
    )
    odd, gone = (
        Entry(key=f"k{n}", job=job.id, dispatch=job.id, task=job.task) for n, job in enumerate((make_job(), make_job()))
    )
    odd.since = gone.since = 0
    dispatches.add([odd, gone])

    class Records:
        async def get(self, job: str) -> JobRecord | None:
            return parse_record(job, b'{"state": "paused"}') if job == odd.job else None

    async def look(_: object) -> dict[str, Row]:
        return {entry.job: Row("running", entry.dispatch) for entry in (odd, gone)}

    monkeypatch.setattr("edge_bridge.airflow.tasks.read_rows", look)
    nowhere: Any = None
    records: Any = Records()
    await reconciler.compare_tasks(nowhere, records)
    assert odd.report is None
    assert odd.unreadable_since is not None
    assert gone.report is not None
    assert gone.report.verb is Verb.FAIL
    odd.since, odd.unreadable_since = 0, odd.unreadable_since - UNREADABLE_S
    await reconciler.compare_tasks(nowhere, records)
    late: Report | None = odd.report
    assert late is not None
    assert late.verb is Verb.FAIL
    assert "can't be read" in (late.info or "")
