"""The spans of a job as the relay sees it: `waiting`, `hand-out`, `run`, `finish`, siblings below Airflow's span.

No span of the relay encloses them: Airflow's span of the task does. A replica reads what it needs from the record and
the receipt, so a job may pass through any replicas. A grant that was not started has no span: its time is part of
`waiting`.
"""

from datetime import UTC, datetime, timedelta

from edge_relay.identity.receipts import Receipt
from edge_schemas.life.model import JobRecord, Verdict
from edge_schemas.wire.polls import GRANT_WAIT_S
from edge_service.tracing import Attributes, Spans

FAILURES = frozenset({Verdict.FAILED, Verdict.LOST})


class RelayJobSpans:
    """Reports spans of jobs. Costs nothing while there is no collector."""

    def __init__(self, spans: Spans) -> None:
        self._spans = spans

    def started(self, before: JobRecord, after: JobRecord, receipt: Receipt, site: str) -> None:
        """A worker has become the holder."""
        if before.holder is not None or after.holder is None:
            return  # a later agent of the same worker continues the job
        granted_at = receipt.expires_at - timedelta(seconds=GRANT_WAIT_S)
        attributes = _attributes(before, after.holder.worker, site)
        waiting = {**attributes, "releases": len(before.releases) or None}
        self._spans.report("waiting", before.job, start=before.waits_since, end=granted_at, attributes=waiting)
        self._spans.report("hand-out", before.job, start=granted_at, end=after.holder.started_at, attributes=attributes)

    def finished(self, before: JobRecord, after: JobRecord, arrived_at: datetime, site: str) -> None:
        """The holder reported the end, which arrived then and is in the record now; or released the job."""
        if before.holder is None:
            return
        verdict = None if after.outcome is None else after.outcome.verdict
        attributes = {**_attributes(before, before.holder.worker, site), "verdict": verdict or "released"}
        failed = verdict in FAILURES
        started_at = before.holder.started_at
        self._spans.report("run", before.job, start=started_at, end=arrived_at, attributes=attributes, failed=failed)
        self._spans.report("finish", before.job, start=arrived_at, end=datetime.now(UTC), attributes=attributes)

    def close(self) -> None:
        """Send the remaining spans; blocks for a short time."""
        self._spans.close()


def _attributes(record: JobRecord, worker: str, site: str) -> Attributes:
    return {"job": record.id, "queue": record.queue, "team": record.team, "worker": worker, "site": site}
