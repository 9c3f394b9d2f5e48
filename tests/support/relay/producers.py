"""A producer reduced to its calls, and what publishes its jobs in tests."""

from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from edge_broker.connection.errors import SubjectOccupied
from edge_broker.layout import ensure_consumer
from edge_broker.subjects import job_subject
from edge_schemas.admin.access import Role
from edge_schemas.life.model import JobRecord, JobState, Outcome, Verdict
from edge_schemas.producers.submissions import JobStatus
from edge_schemas.wire import routes
from edge_schemas.wire.jobs import JobKind, OnLost
from support.nats.server import eventually
from support.relay.edge import Edge, Reply

COMMAND = {"argv": ["backup", "--all"]}
PAYLOAD = {"content_type": "text/plain", "text": "hello"}


class Producer:
    """A caller of the producers' API."""

    def __init__(self, edge: Edge, secret: str, queue: str = "default") -> None:
        self.edge = edge
        self.secret = secret
        self.queue = queue

    async def call(self, method: str, path: str, **more: Any) -> Reply:
        return await self.edge.call(method, path, self.secret, **more)

    async def submit(self, queue: str | None = None, *, replica: int = 0, **job: Any) -> Reply:
        """One submission; a payload unless it says otherwise."""
        if "command" not in job:
            job.setdefault("payload", PAYLOAD)
        path = routes.QUEUE_JOBS.format(queue=queue or self.queue)
        return await self.call("POST", path, json=job, replica=replica)

    async def submitted(self, **job: Any) -> str:
        """The id of a new job."""
        reply = await self.submit(**job)
        assert reply.status == 201, reply.body
        return str(reply.json["job"])

    async def batch(self, *jobs: dict[str, Any], replica: int = 0) -> Reply:
        path = routes.QUEUE_JOB_BATCHES.format(queue=self.queue)
        return await self.call("POST", path, json={"jobs": jobs}, replica=replica)

    async def status(self, job: str, *, wait: float = 0, replica: int = 0) -> Reply:
        return await self.call("GET", f"{routes.JOB.format(job=job)}?wait={wait}", replica=replica)

    async def log(self, job: str, offset: int = 0, *, wait: float = 0, replica: int = 0) -> Reply:
        path = f"{routes.JOB_LOG.format(job=job)}?offset={offset}&wait={wait}"
        return await self.call("GET", path, replica=replica)

    async def list(self, query: str = "", *, queue: str | None = None) -> Reply:
        return await self.call("GET", routes.QUEUE_JOBS.format(queue=queue or self.queue) + query)

    async def cancel(self, job: str, **body: Any) -> Reply:
        return await self.call("POST", routes.JOB_CANCEL.format(job=job), json=body)


async def producer(edge: Edge, queue: str = "default", *, name: str = "shop") -> Producer:
    """A new producer of one queue."""
    return Producer(edge, await edge.access_token_for(name, role=Role.PRODUCER, queues=[queue]), queue)


async def publish_message(edge: Edge, job: str) -> JobRecord:
    """The message of a submitted job, unless the part that looks after these jobs has stored one already."""
    record = await edge.records.get(job)
    assert record is not None
    assert record.job is not None
    await ensure_consumer(edge.broker, record.team, record.queue, record.kind)
    message = record.job.model_copy(update={"attempt": record.attempt + 1})
    subject = job_subject(record.team, record.queue, record.kind, record.id)
    with suppress(SubjectOccupied):
        await edge.broker.store(subject, message.model_dump_json().encode())
    return record


def ended_status() -> JobStatus:
    """The status of a job that has succeeded."""
    now = datetime.now(UTC)
    return JobStatus(
        job="6f2c7a50-0000-4000-8000-000000000000",
        queue="default",
        kind=JobKind.COMMAND,
        name="true",
        producer="shop",
        state=JobState.ENDED,
        attempt=1,
        max_attempts=1,
        on_lost=OnLost.FAIL,
        priority=0,
        submitted_at=now,
        outcome=Outcome(verdict=Verdict.SUCCEEDED, exit_code=0, ended_at=now),
    )


async def token_id(edge: Edge, name: str) -> str:
    """The id of the access token with this name, once the replica lists the token."""
    found: list[str] = []

    async def is_listed() -> bool:
        rows = (await edge.admin("GET", routes.ADMIN_ACCESS_TOKENS)).json["items"]
        found[:] = [row["id"] for row in rows if row["name"] == name]
        return bool(found)

    await eventually(is_listed)
    return found[0]
