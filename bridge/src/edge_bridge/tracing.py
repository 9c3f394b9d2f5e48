"""The spans of a job in the bridge, children of the span that Airflow gave the task: see `edge_service.tracing`."""

from datetime import UTC, datetime

from edge_schemas.life.model import JobRecord, Verdict
from edge_schemas.wire.jobs import Job
from edge_service.tracing import Spans


def traceparent_of(ti: object) -> str | None:
    """The trace context that Airflow gave a task instance, in W3C's form; the task's own spans are its children too."""
    carrier = getattr(ti, "context_carrier", None)
    found = carrier.get("traceparent") if isinstance(carrier, dict) else None
    return found if isinstance(found, str) else None


class CentreJobSpans:
    """Reports what the bridge did with a job. Costs nothing while there is no collector."""

    def __init__(self, spans: Spans) -> None:
        self._spans = spans

    def published(self, job: Job) -> None:
        """The job's record and message are in NATS."""
        attributes = {"job": job.id, "queue": job.queue, "team": job.team}
        self._spans.report("publish", job, start=job.published_at, end=datetime.now(UTC), attributes=attributes)

    def given_up(self, before: JobRecord, after: JobRecord) -> None:
        """A keeper has given up a job that ran; otherwise the relay of its holder reports the run."""
        if before.holder is None:
            return
        verdict = None if after.outcome is None else after.outcome.verdict
        attributes = {
            "job": before.id,
            "queue": before.queue,
            "team": before.team,
            "worker": before.holder.worker,
            "verdict": verdict or "released",
        }
        failed = verdict in {Verdict.FAILED, Verdict.LOST}
        started_at, now = before.holder.started_at, datetime.now(UTC)
        self._spans.report("run", before.job, start=started_at, end=now, attributes=attributes, failed=failed)

    def close(self) -> None:
        """Send the remaining spans; blocks for a short time."""
        self._spans.close()
