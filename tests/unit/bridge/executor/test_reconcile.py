"""What one dispatch may not do to the comparison of all others."""

from typing import Any

import pytest

from edge_bridge.airflow.dispatch_table import DispatchTable, Entry, Verb
from edge_bridge.airflow.mapping import JobMaker, Row
from edge_bridge.airflow.queues import QueueRules, Queues
from edge_bridge.executor.metrics import ExecutorMetrics
from edge_bridge.executor.order.demand import Demand
from edge_bridge.executor.order.queue_order import QueueOrder
from edge_bridge.executor.publisher import Publisher
from edge_bridge.executor.reconcile.reconciler import Reconciler
from edge_bridge.executor.reports import Reports
from edge_bridge.tracing import CentreJobSpans
from edge_schemas.life.model import JobRecord
from edge_schemas.wire.offline import OfflinePolicy
from edge_service.tracing import Spans
from support.relay.jobs import make_job


async def test_a_record_of_another_version_holds_nobody_up_and_fails_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Executor, keeper and relay are not upgraded in one moment."""
    dispatches = DispatchTable()
    reports = Reports(dispatches, lambda _: None, lambda _: None)
    maker = JobMaker("", None, Queues(QueueRules(OfflinePolicy())), {})
    metrics = ExecutorMetrics().of(None)
    order = QueueOrder(Demand(), dispatches.started_in, 4)
    publisher = Publisher(reports.refuse, lambda _: None, order, metrics, CentreJobSpans(Spans()))
    reconciler = Reconciler(
        dispatches, publisher, reports, interval_s=30, maker=maker, name=None, metrics=metrics, settle_s=0
    )
    odd, gone = (
        Entry(key=f"k{n}", job=job.id, dispatch=job.id, task=job.task) for n, job in enumerate((make_job(), make_job()))
    )
    odd.since = gone.since = 0
    dispatches.add([odd, gone])

    class Records:
        async def get(self, job: str) -> JobRecord | None:
            return JobRecord.model_validate_json(b'{"state": "paused"}') if job == odd.job else None

    async def look(_: object) -> dict[str, Row]:
        return {entry.job: Row("running", entry.dispatch) for entry in (odd, gone)}

    monkeypatch.setattr("edge_bridge.airflow.tasks.read_rows", look)
    nowhere: Any = None
    records: Any = Records()
    await reconciler.compare_tasks(nowhere, records)
    assert odd.report is None
    assert gone.report is not None
    assert gone.report.verb is Verb.FAIL
