"""What operators order reaches polls on two replicas, and survives restarts. With a real NATS."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest

from edge_broker.bucket import Bucket
from edge_broker.layout import ensure_consumer
from edge_broker.subjects import DESIRED_BUCKET
from edge_schemas.wire import routes
from edge_schemas.wire.jobs import JobKind
from support.nats.server import eventually
from support.relay.agents import Agent, agent, parked, publish, pulling
from support.relay.edge import Edge, Reply

WITHIN_S = 2.0
"""How long it may take until a worker knows what an operator ordered."""


async def order(edge: Edge, kind: str, do: str, *, replica: int = 0, dry_run: bool = False, **more: Any) -> Reply:
    """An action on sites, queues or workers, named by the keyword `kind`."""
    path = {"workers": routes.ADMIN_WORKER_ACTIONS, "sites": routes.ADMIN_SITE_ACTIONS}.get(
        kind, routes.ADMIN_QUEUE_ACTIONS
    )
    target = more.pop(kind)
    body = {"action": {"do": do, **more}, kind: target, "reason": "the press is moved", "dry_run": dry_run}
    reply = await edge.admin("POST", path, body, replica=replica)
    assert reply.status == 200, reply.body
    return reply


async def settings_of(waiting: "asyncio.Task[Reply]") -> dict[str, Any]:
    """The settings in the answer to a parked poll, which must come soon."""
    async with asyncio.timeout(WITHIN_S):
        reply = await waiting
    assert reply.status == 200, reply.body
    found: dict[str, Any] = reply.json["settings"]
    return found


async def nothing(one: Agent, version: int, seconds: float = 0.3) -> bool:
    """Whether a poll that waits a moment gets no job."""
    return (await one.poll(settings_version=version, poll_timeout_s=seconds)).status == 204


async def test_a_pause_by_one_replica_reaches_a_poll_parked_at_the_other(edge: Edge) -> None:
    """And wakes no other poll: the other worker's waits on and gets the job."""
    one, other = await agent(edge, replica=1), await agent(edge, replica=1)
    await ensure_consumer(edge.broker, None, "default", JobKind.TASK)
    async with asyncio.TaskGroup() as group:
        polls = [group.create_task(each.poll()) for each in (one, other)]
        await parked(edge, 2, replica=1)
        began = time.monotonic()
        await order(edge, "workers", "pause", workers=[one.name])
        settings = await settings_of(polls[0])
        assert time.monotonic() - began < WITHIN_S
        assert settings["availability"] == "paused"
        assert settings["availability_reason"] == "the press is moved (by tests)"
        assert settings["version"] > 1
        job = await publish(edge.broker)
        [grant] = (await polls[1]).json["grants"]
        assert grant["job"]["id"] == job.id
        await publish(edge.broker)
        assert await nothing(one, settings["version"])
        polls = [group.create_task(one.poll(settings_version=settings["version"]))]
        await parked(edge, 1, replica=1)
        await order(edge, "workers", "resume", workers=[one.name], replica=1)
        assert (await settings_of(polls[0])).get("availability", "active") == "active"
    assert await one.grants(settings_version=settings["version"] + 2)


@pytest.mark.parametrize("do", ["pause", "drain", "stop"])
async def test_a_site_that_is_ordered_away_gets_no_jobs_and_workers_that_enrol_there_neither(
    edge: Edge, do: str
) -> None:
    here, elsewhere = await agent(edge, replica=1), await agent(edge, site="office", replica=1)
    await publish(edge.broker)
    await order(edge, "sites", do, sites=["plant"])
    late = await agent(edge, replica=1)
    for one in (here, late):
        reply = await one.poll(replica=0)
        assert reply.json["settings"]["availability"] == {"pause": "paused", "drain": "draining", "stop": "stopped"}[do]
        assert "grants" not in reply.json or not reply.json["grants"]
        assert await nothing(one, reply.json["settings"]["version"])
    assert await elsewhere.grants()


async def test_a_paused_queue_keeps_its_jobs_and_the_worker_gets_those_of_others(edge: Edge) -> None:
    one = await agent(edge, replica=1)
    await ensure_consumer(edge.broker, None, "spare", JobKind.TASK)
    await order(edge, "workers", "set-queues", workers=[one.name], add=["spare"])
    version = (await one.poll()).json["settings"]["version"]
    await order(edge, "queues", "pause", queues=[{"queue": "default"}])
    await eventually(lambda: _is_paused(edge, "default"), what="the other replica knows")
    waits = await publish(edge.broker)
    assert await nothing(one, version)
    async with asyncio.TaskGroup() as group:
        poll = group.create_task(one.poll(settings_version=version))
        await parked(edge, 1, replica=1)
        await order(edge, "queues", "resume", queues=[{"queue": "default"}])
        async with asyncio.timeout(WITHIN_S):
            [grant] = (await poll).json["grants"]
    assert grant["job"]["id"] == waits.id


async def _is_paused(edge: Edge, queue: str) -> bool:
    return all(relay.parts.desired.is_paused(None, queue) for relay in edge.relays)


async def test_a_queue_that_is_paused_while_a_poll_waits_delivers_nothing_to_it(edge: Edge) -> None:
    one = await agent(edge, replica=1)
    await ensure_consumer(edge.broker, None, "default", JobKind.TASK)
    async with asyncio.TaskGroup() as group:
        poll = group.create_task(one.poll(poll_timeout_s=1.5))
        await pulling(edge, "default")
        await order(edge, "queues", "pause", queues=[{"queue": "default"}])
        await eventually(lambda: _is_paused(edge, "default"), what="the other replica knows")
        job = await publish(edge.broker)
        assert (await poll).status == 204
    await order(edge, "queues", "resume", queues=[{"queue": "default"}])
    [grant] = await one.grants()
    assert grant["job"]["id"] == job.id


async def test_an_order_with_an_end_is_over_by_itself(edge: Edge) -> None:
    one = await agent(edge, replica=1)
    until = (datetime.now(UTC) + timedelta(seconds=1.5)).isoformat()
    await order(edge, "workers", "pause", workers=[one.name], until=until)
    paused = (await one.poll()).json["settings"]
    assert paused["availability"] == "paused"
    assert paused["availability_until"]
    began = time.monotonic()
    active = await settings_of_next(one, paused["version"])
    assert time.monotonic() - began < 1.5 + WITHIN_S
    assert active.get("availability", "active") == "active"
    assert active["version"] > paused["version"]
    await publish(edge.broker)
    assert await one.grants(settings_version=active["version"])


async def settings_of_next(one: Agent, version: int) -> dict[str, Any]:
    """The settings that the next poll brings, however long it waits for them."""
    reply = await one.poll(settings_version=version)
    assert reply.status == 200, reply.body
    found: dict[str, Any] = reply.json["settings"]
    return found


async def test_a_queue_change_reaches_a_parked_poll_and_its_jobs_follow(edge: Edge) -> None:
    one = await agent(edge, replica=1)
    await ensure_consumer(edge.broker, None, "default", JobKind.TASK)
    await ensure_consumer(edge.broker, None, "spare", JobKind.TASK)
    async with asyncio.TaskGroup() as group:
        poll = group.create_task(one.poll())
        await parked(edge, 1, replica=1)
        await order(edge, "workers", "set-queues", workers=[one.name], queues=["spare"])
        settings = await settings_of(poll)
    assert settings["queues"] == ["spare"]
    await publish(edge.broker)
    assert await nothing(one, settings["version"])
    facts = await edge.call("GET", routes.WORKER, one.secret)
    assert facts.json["queues"] == ["spare"]
    await order(edge, "workers", "set-queues", workers=[one.name], as_enrolled=True)
    assert await one.grants(settings_version=settings["version"] + 2)


async def test_a_bucket_that_was_restored_from_a_backup_counts(edge: Edge) -> None:
    """Its versions are lower than those that were known."""
    one = await agent(edge, replica=1)
    for do in ("pause", "resume", "pause"):
        await order(edge, "workers", do, workers=[one.name])
    bucket = Bucket(edge.broker, DESIRED_BUCKET)
    key = f"worker.{one.name}"
    stored = await bucket.get(key)
    assert stored.value is not None
    old = {**orjson.loads(stored.value), "version": 1, "slots": 3}
    del old["order"]
    # Written by nobody who knows the newer version; the watch shows it as the bucket's newest.
    await bucket.put(key, orjson.dumps(old), revision=stored.revision)
    await eventually(lambda: _slots(edge, one.name, 3), what="both replicas follow the bucket", timeout_s=20)


async def _slots(edge: Edge, worker: str, slots: int) -> bool:
    return all(relay.parts.desired.worker(worker).slots == slots for relay in edge.relays)


async def test_a_poll_is_not_granted_jobs_before_the_orders_are_known(edge: Edge) -> None:
    """As after a restart of a relay: its credentials may be complete before its desired state is."""
    one = await agent(edge, replica=1)
    await publish(edge.broker)
    desired = edge.relays[1].parts.desired
    desired.complete.clear()
    async with asyncio.TaskGroup() as group:
        poll = group.create_task(one.poll())
        done, _ = await asyncio.wait({poll}, timeout=0.5)
        assert not done, "it waits, although there is a job"
        desired.apply(f"worker.{one.name}", _paused())
        desired.complete.set()
        reply = await poll
    assert reply.json["settings"]["availability"] == "paused"
    assert not reply.json.get("grants")


def _paused() -> bytes:
    order = {"availability": "paused", "reason": "moved", "by": "ann", "since": datetime.now(UTC).isoformat()}
    return orjson.dumps({"version": 1, "order": order})
