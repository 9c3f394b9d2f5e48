"""What one dispatch may not do to the comparison of all others."""

from typing import Any

import pytest

from edge_bridge.ledger import Entry, Ledger, Verb
from edge_bridge.mapping import TaskRow
from edge_bridge.publisher import Publisher
from edge_bridge.reconcile import Reconciler
from edge_bridge.reports import Reports
from edge_bridge.tasks import name_of
from edge_schemas.records import JobRecord
from support.jobs import make_job


async def test_a_record_of_another_version_holds_nobody_up_and_fails_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Executor, keeper and relay are not upgraded in one moment."""
    ledger = Ledger()
    reports = Reports(ledger, lambda _: None)
    reconciler = Reconciler(ledger, Publisher(reports.refuse), reports, interval_s=30, core_executor="", settle_s=0)
    odd, gone = (Entry(key=f"k{n}", job=job.id, dispatch=job.id, task=job.work.task) for n, job in enumerate(_jobs()))
    odd.since = gone.since = 0
    ledger.add([odd, gone])

    class Records:
        async def get(self, job: str) -> JobRecord | None:
            return JobRecord.model_validate_json(b'{"state": "paused"}') if job == odd.job else None

    async def look(_: object) -> dict[Any, TaskRow]:
        return {name_of(entry.task): TaskRow("running", entry.dispatch) for entry in (odd, gone)}

    monkeypatch.setattr("edge_bridge.tasks.look", look)
    nowhere: Any = None
    records: Any = Records()
    await reconciler.compare(nowhere, records)
    assert odd.report is None
    assert gone.report is not None
    assert gone.report.verb is Verb.FAIL


def _jobs() -> Any:
    first, second = make_job(), make_job()
    changed = second.work.model_copy(update={"task": second.work.task.model_copy(update={"task_id": "t2"})})
    return first, second.model_copy(update={"work": changed})
