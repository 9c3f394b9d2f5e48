"""A worker reduced to its calls, and jobs published as the executor does, for tests of the relay's core."""

import asyncio
import uuid
from collections.abc import Sequence
from typing import Any

from edge_broker.connection.broker import Broker
from edge_broker.connection.errors import SubjectOccupied
from edge_broker.layout import ensure_consumer
from edge_broker.records import RecordStore
from edge_broker.subjects import job_subject
from edge_schemas.life.model import new_record
from edge_schemas.wire import routes
from edge_schemas.wire.jobs import Job
from edge_schemas.wire.polls import PROTOCOL
from support.nats.server import eventually
from support.relay.edge import Edge, Reply, Worker
from support.relay.jobs import make_job

VERSIONS = {"agent": "0", "python": "3.11", "platform": "test"}


async def publish(broker: Broker, job: Job | None = None, *, consumer: bool = True) -> Job:
    """Record, then message."""
    job = job or make_job()
    await RecordStore(broker).create(new_record(job))
    if consumer:
        await ensure_consumer(broker, job.team, job.queue, job.kind)
    try:
        await broker.store(job_subject(job.team, job.queue, job.kind, job.id), job.model_dump_json().encode())
    except SubjectOccupied:
        # A relay that looks after submitted jobs may have been faster.
        if job.terms is None:
            raise
    return job


class Agent:
    """An enrolled worker whose calls a test makes."""

    def __init__(
        self, edge: Edge, worker: Worker, *, replica: int = 0, incarnation: int = 1, instance: str = "machine"
    ) -> None:
        self.edge = edge
        self.name = worker.name
        self.secret = worker.secret
        self.replica = replica
        self.worker = worker
        self.incarnation = incarnation
        self.instance = instance
        self.key = uuid.uuid4().hex
        self.seq = 0

    def again(self, *, instance: str | None = None, incarnation: int | None = None) -> "Agent":
        """Another start of this worker's agent, or a copy of it on another machine."""
        return Agent(
            self.edge,
            self.worker,
            replica=self.replica,
            incarnation=self.incarnation + 1 if incarnation is None else incarnation,
            instance=self.instance if instance is None else instance,
        )

    async def poll(self, *, replica: int | None = None, **report: Any) -> Reply:
        """One poll; `report` replaces fields of it."""
        body = self.report(**report)
        where = self.replica if replica is None else replica
        return await self.edge.call("POST", routes.POLL, self.secret, json=body, replica=where, headers=self.headers)

    @property
    def headers(self) -> dict[str, str]:
        """What an agent's process sends with each call."""
        return {routes.AGENT_HEADER: self.key}

    def report(self, **report: Any) -> dict[str, Any]:
        """The body of the next poll."""
        if "seq" not in report:
            self.seq += 1
        return {
            "protocol": PROTOCOL,
            "incarnation": self.incarnation,
            "seq": self.seq,
            "instance": self.instance,
            "host": f"host-of-{self.instance}",
            "slots": 8,
            "free": 1,
            "poll_timeout_s": 20,
            "settings_version": 1,
            "versions": VERSIONS,
            **report,
        }

    async def grants(self, wanted: int = 1, **report: Any) -> list[dict[str, Any]]:
        """Poll until this many jobs were granted."""
        found: list[dict[str, Any]] = []
        while len(found) < wanted:
            reply = await self.poll(free=wanted - len(found), **report)
            assert reply.status in {200, 204}, reply.body
            found += reply.json["grants"] if reply.status == 200 else []
        return found

    async def start(self, grant: dict[str, Any], *, job: str | None = None, replica: int | None = None) -> Reply:
        body = {"receipt": grant["receipt"], "incarnation": self.incarnation}
        return await self._post(routes.JOB_START, job or grant["job"]["id"], body, replica)

    async def finish(self, job: str, *, replica: int | None = None, **body: Any) -> Reply:
        return await self._post(routes.JOB_FINISH, job, {"incarnation": self.incarnation, **body}, replica)

    async def release(self, grant: dict[str, Any], *, replica: int | None = None, **body: Any) -> Reply:
        body = {"receipt": grant["receipt"], "reason": "does not fit", **body}
        return await self._post(routes.JOB_RELEASE, grant["job"]["id"], body, replica)

    async def _post(self, route: str, job: str, body: dict[str, Any], replica: int | None) -> Reply:
        where = self.replica if replica is None else replica
        path = route.format(job=job)
        return await self.edge.call("POST", path, self.secret, json=body, replica=where, headers=self.headers)


async def agent(edge: Edge, *, replica: int = 0, **more: Any) -> Agent:
    """A new worker."""
    return Agent(edge, await edge.worker(**more), replica=replica)


async def parked(edge: Edge, number: int, *, replica: int = 0) -> None:
    """Wait until this many polls are parked on a replica."""
    polls = edge.relays[replica].parts.metrics.registry

    def count() -> bool:
        return polls.get_sample_value("edge_relay_polls_parked") == number

    await eventually(count, what=f"{number} parked polls")


async def arrived(edge: Edge, one: Agent) -> None:
    """Wait until the newest poll of this agent is in its worker's entry."""

    async def is_in() -> bool:
        entry = await edge.relays[0].parts.workers.get(one.name)
        return entry is not None and (entry.agent.incarnation, entry.agent.seq) == (one.incarnation, one.seq)

    await eventually(is_in, what="the poll has arrived")


async def pulling(edge: Edge, consumer: str, number: int = 1) -> None:
    """Wait until pulls for a queue stand at the server."""

    async def waiting() -> bool:
        info = await edge.broker.api(f"CONSUMER.INFO.EDGE_JOBS.{consumer}")
        return int(info["num_waiting"]) >= number

    await eventually(waiting, what=f"{number} pulls of {consumer}")


def metric(edge: Edge, name: str, labels: dict[str, str] | None = None, *, replica: int = 0) -> float:
    """A metric's value; 0 if it was never touched."""
    value = edge.relays[replica].parts.metrics.registry.get_sample_value(name, labels)
    return value or 0.0


async def both(calls: Sequence[Any]) -> list[Any]:
    """Make calls at the same time."""
    return list(await asyncio.gather(*calls))
