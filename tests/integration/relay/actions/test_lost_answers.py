"""A change is stored and its answer is lost on the way from NATS: the audit has its event all the same, and once."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from edge_broker.bucket import Bucket
from edge_broker.subjects import ACCESS_BUCKET, DESIRED_BUCKET, RECORDS_BUCKET
from edge_schemas.admin.audit import AuditEvent
from edge_schemas.life.events import Release
from edge_schemas.life.transition import RELEASES_BEFORE_PARKED
from edge_schemas.wire import routes
from edge_schemas.wire.jobs import Job
from support.nats.server import eventually
from support.network.link import Cut
from support.relay.edge import Edge, Reply, running_edge
from support.relay.fleet import audit

pytestmark = pytest.mark.timeout(90)


@pytest.fixture
async def linked(tmp_path: Path) -> AsyncIterator[Edge]:
    async with running_edge(tmp_path, replicas=2, linked=True) as edge:
        yield edge


async def act(edge: Edge, worker: str, *, replica: int = 0, reason: str = "new press", **action: Any) -> Reply:
    body = {"action": action, "workers": [worker], "reason": reason}
    return await edge.admin("POST", routes.ADMIN_WORKER_ACTIONS, body, replica=replica)


async def act_without_answer(edge: Edge, worker: str, bucket: str, key: str, **action: Any) -> None:
    """An action whose write is stored, while the relay learns nothing of it."""
    stored = Bucket(edge.broker, bucket)
    before, events_before = (await stored.get(key)).revision, await audit(edge, "worker")
    edge.nats_link.loses_answer_to = f"PUB $KV.{bucket}.{key} ".encode()
    acting = asyncio.create_task(act(edge, worker, **action), name="action")

    async def is_stored() -> bool:
        return (await stored.get(key)).revision > before

    await eventually(is_stored, timeout_s=20, what="the write")
    assert await audit(edge, "worker") == events_before, "the event was lost"
    await edge.nats_link.cut(Cut.RESET)
    await edge.nats_link.restore()
    reply = await acting
    assert reply.code == "broker_unavailable", reply.body


async def repeat(edge: Edge, worker: str, *, replica: int = 0, reason: str = "new press", **action: Any) -> Reply:
    """The action again, as soon as the relay has NATS again."""
    reply = await act(edge, worker, replica=replica, reason=reason, **action)

    async def is_done() -> bool:
        nonlocal reply
        if reply.status != 200 or reply.json["failure_count"]:
            reply = await act(edge, worker, replica=replica, reason=reason, **action)
        return reply.status == 200 and not reply.json["failure_count"]

    await eventually(is_done, timeout_s=20, what="NATS is back")
    return reply


async def events(edge: Edge, worker: str, *actions: str) -> list[AuditEvent]:
    return [event for event in await audit(edge, "worker") if event.target == worker and event.action in actions]


@pytest.mark.parametrize("replica", [0, 1])
async def test_the_repeat_of_an_order_completes_the_audit(linked: Edge, replica: int) -> None:
    worker = (await linked.worker()).name
    await act_without_answer(linked, worker, DESIRED_BUCKET, f"worker.{worker}", do="pause")
    for _ in range(2):
        again = await repeat(linked, worker, replica=replica, do="pause")
        assert (again.json["changed_count"], again.json["unchanged_count"]) == (0, 1)
    [event] = await events(linked, worker, "worker-paused")
    assert (event.reason, event.actor.kind) == ("new press", "operator")
    assert event.before == {"order": None}
    assert event.after is not None
    assert event.after["order"]["reason"] == "new press"


async def test_the_next_change_completes_the_audit_of_the_one_before(linked: Edge) -> None:
    worker = (await linked.worker()).name
    await act_without_answer(linked, worker, DESIRED_BUCKET, f"worker.{worker}", do="set-slots", slots=3)
    assert (await repeat(linked, worker, replica=1, do="set-slots", slots=5, reason="more")).json["changed_count"] == 1
    found = await events(linked, worker, "worker-slots-set")
    assert [(event.reason, event.before, event.after) for event in found] == [
        ("new press", {"slots": None}, {"slots": 3}),
        ("more", {"slots": 3}, {"slots": 5}),
    ]


async def test_the_repeat_of_a_revocation_completes_the_audit(linked: Edge) -> None:
    worker = await linked.worker()
    [key] = await Bucket(linked.broker, ACCESS_BUCKET).keys("worker.*")
    await act_without_answer(linked, worker.name, ACCESS_BUCKET, key, do="revoke")
    for _ in range(2):
        await repeat(linked, worker.name, do="revoke")
    [event] = await events(linked, worker.name, "worker-revoked")
    assert (event.before, event.after) == ({"revoked": False}, {"revoked": True})


async def parked(edge: Edge) -> Job:
    """A job that no worker could run."""
    job = await edge.job()
    for number in range(RELEASES_BEFORE_PARKED):
        await edge.records.change(
            job.id, Release("w", "no room", counted=True, at=datetime.now(UTC), grant=str(number))
        )
    return job


@pytest.mark.parametrize(
    ("do", "before"), [("cancel", None), ("redrive", {"state": "waiting", "parked": "released 5 times, last: no room"})]
)
async def test_the_repeat_of_a_change_of_a_job_completes_the_audit(
    linked: Edge, do: str, before: dict[str, str] | None
) -> None:
    job = await (linked.job() if do == "cancel" else parked(linked))
    body = {"action": {"do": do}, "jobs": [job.id], "reason": "wrong file"}
    bucket = Bucket(linked.broker, RECORDS_BUCKET)
    revision = (await bucket.get(job.id)).revision
    linked.nats_link.loses_answer_to = f"PUB $KV.{RECORDS_BUCKET}.{job.id} ".encode()
    acting = asyncio.create_task(linked.admin("POST", routes.ADMIN_JOB_ACTIONS, body), name=do)

    async def is_stored() -> bool:
        return (await bucket.get(job.id)).revision > revision

    await eventually(is_stored, timeout_s=20, what="the change of the job")
    assert await audit(linked, "job") == [], "the event was lost"
    await linked.nats_link.cut(Cut.RESET)
    await linked.nats_link.restore()
    await acting

    async def is_answered() -> bool:
        reply = await linked.admin("POST", routes.ADMIN_JOB_ACTIONS, body)
        return reply.status == 200 and reply.json["unchanged_count"] == 1

    for _ in range(2):
        await eventually(is_answered, timeout_s=20, what="the repeat")
    [event] = await audit(linked, "job")
    assert (event.target, event.reason, event.before) == (job.id, "wrong file", before)
    assert event.action in {"job-cancelled", "job-redriven"}
