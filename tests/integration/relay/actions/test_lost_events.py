"""A change is stored, and its event is not: the relay was killed, or NATS' answer was lost. The audit gets it, once.

No operator repeats the call: a token that is created again is another token.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from edge_broker import audited_bucket
from edge_broker.audited_bucket import pending_event
from edge_broker.bucket import Bucket
from edge_broker.subjects import ACCESS_BUCKET, DESIRED_BUCKET, WORKERS_BUCKET
from edge_schemas.admin.audit import AuditEvent
from edge_schemas.wire import routes
from support.nats.server import eventually, free_port
from support.network.link import Cut, Link
from support.relay.agents import Agent
from support.relay.edge import Edge, running_edge
from support.relay.fleet import audit
from support.relay.relay_process import relay_process

pytestmark = pytest.mark.timeout(120)

BUCKETS = (ACCESS_BUCKET, DESIRED_BUCKET, WORKERS_BUCKET)
Call = tuple[str, str, dict[str, Any] | None]


@dataclass(frozen=True)
class Case:
    """A change by an operator.

    Attributes:
        prepare: Returns the call, after what must be there before it.
        before: What the event shows.
        after: At least what the event shows.
    """

    action: str
    kind: str
    prepare: Callable[[Edge], Awaitable[Call]]
    before: dict[str, Any] | None
    after: dict[str, Any] = field(default_factory=dict)


def on_worker(worker: str, **action: Any) -> Call:
    return "POST", routes.ADMIN_WORKER_ACTIONS, {"action": action, "workers": [worker], "reason": "why"}


async def pause(edge: Edge) -> Call:
    return on_worker((await edge.worker()).name, do="pause")


async def rotate(edge: Edge) -> Call:
    return on_worker((await edge.worker()).name, do="rotate")


async def revoke(edge: Edge) -> Call:
    return on_worker((await edge.worker()).name, do="revoke")


async def remove(edge: Edge) -> Call:
    worker = await edge.worker()
    await edge.act_on_worker(worker.name, "revoke")
    return on_worker(worker.name, do="remove")


async def resolve(edge: Edge) -> Call:
    older = Agent(edge, await edge.worker())
    newer = older.again(instance="copy")
    for one in (older, newer):
        assert (await one.poll(poll_timeout_s=0)).status == 204
    reply = await older.poll(poll_timeout_s=0)
    await older.poll(poll_timeout_s=0, superseded_by=reply.json["superseded_by"])
    return on_worker(older.name, do="resolve", keep="newer")


async def create_access_token(_: Edge) -> Call:
    return "POST", routes.ADMIN_ACCESS_TOKENS, {"name": "wall", "role": "viewer", "reason": "why"}


async def revoke_access_token(edge: Edge) -> Call:
    created = await edge.admin(*(await create_access_token(edge)))
    return "DELETE", f"{routes.ADMIN_ACCESS_TOKEN.format(token=created.json['id'])}?reason=why", None


async def create_enroll_token(_: Edge) -> Call:
    return "POST", routes.ADMIN_ENROLL_TOKENS, {"site": "plant", "queues": ["default"], "ttl_s": 3600, "reason": "why"}


async def revoke_enroll_token(edge: Edge) -> Call:
    await edge.admin(*(await create_enroll_token(edge)))
    [token] = (await edge.admin("GET", routes.ADMIN_ENROLL_TOKENS)).json["items"]
    return "DELETE", f"{routes.ADMIN_ENROLL_TOKEN.format(token=token['id'])}?reason=why", None


CASES = (
    Case("worker-paused", "worker", pause, {"order": None}),
    Case("worker-rotation-ordered", "worker", rotate, {"rotation": 0}, {"rotation": 1}),
    Case("worker-revoked", "worker", revoke, {"revoked": False}, {"revoked": True}),
    Case("worker-removed", "worker", remove, {"removed": False}, {"removed": True}),
    Case("worker-conflict-resolved", "worker", resolve, {"in_conflict": True}, {"in_conflict": False, "kept": "newer"}),
    Case("access-token-created", "token", create_access_token, None, {"name": "wall", "role": "viewer"}),
    Case(
        "access-token-revoked",
        "token",
        revoke_access_token,
        {"name": "wall", "role": "viewer", "revoked": False},
        {"revoked": True},
    ),
    Case("enroll-token-created", "token", create_enroll_token, None, {"queues": ["default"], "uses": 1}),
    Case("enroll-token-revoked", "token", revoke_enroll_token, {"used": 0, "revoked": False}, {"revoked": True}),
)


@pytest.fixture
async def linked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Edge]:
    monkeypatch.setattr(audited_bucket, "AFTER_S", 1.0)
    async with running_edge(tmp_path, replicas=2, linked=True) as edge:
        yield edge


async def events(edge: Edge, case: Case) -> list[AuditEvent]:
    return [event for event in await audit(edge, case.kind) if event.action == case.action]


async def pending(edge: Edge) -> list[AuditEvent]:
    """The events that entries still hold."""
    found = []
    for bucket in (Bucket(edge.broker, name) for name in BUCKETS):
        stored = [await bucket.get(key) for key in await bucket.keys(">")]
        found += [event for one in stored if (event := pending_event(one.value)) is not None]
    return found


async def is_written(edge: Edge, case: Case, link: Link) -> None:
    """The first message with the event is the changed entry. The relay does not know that it was stored."""
    await eventually(lambda: link.loses_answer_to is None, timeout_s=20, what="the write of the entry")

    async def is_stored() -> bool:
        return [event.action for event in await pending(edge)] == [case.action]

    await eventually(is_stored, timeout_s=20, what="the entry")
    assert await events(edge, case) == [], "the event was lost"


async def is_recorded_once(edge: Edge, case: Case) -> None:
    async def is_settled() -> bool:
        return bool(await events(edge, case)) and not await pending(edge)

    await eventually(is_settled, timeout_s=40, what=f"the event {case.action}")
    [event] = await events(edge, case)
    assert (event.actor.name, event.actor.kind, event.actor.address) == ("tests", "operator", "127.0.0.1")
    assert event.reason == "why"
    assert event.before == case.before
    assert event.after is not None
    assert {**event.after, **case.after} == event.after


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.action)
async def test_the_event_of_a_lost_answer_is_stored_once(linked: Edge, case: Case) -> None:
    call = await case.prepare(linked)
    linked.nats_link.loses_answer_to = f'"action":"{case.action}"'.encode()
    acting = asyncio.create_task(linked.admin(*call), name="action")
    await is_written(linked, case, linked.nats_link)
    await linked.nats_link.cut(Cut.RESET)
    await linked.nats_link.restore()
    assert (await acting).code == "broker_unavailable"
    await is_recorded_once(linked, case)


@pytest.mark.slow
async def test_the_event_of_a_killed_relay_is_stored_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a replica that runs. The token, which no person has seen, still ends by itself."""
    monkeypatch.setattr(audited_bucket, "AFTER_S", 1.0)
    [case] = [case for case in CASES if case.prepare is create_enroll_token]
    async with AsyncExitStack() as stack:
        edge = await stack.enter_async_context(running_edge(tmp_path))
        link = await stack.enter_async_context(Link.to(edge.server.url))
        port = free_port()
        extra = {"RELAY_OPERATORS_PORT": str(port), "RELAY_NATS_URLS": f"nats://127.0.0.1:{link.port}"}
        relay, _ = await stack.enter_async_context(relay_process(edge, tmp_path / "killed", extra=extra))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        method, path, body = await case.prepare(edge)
        link.loses_answer_to = f'"action":"{case.action}"'.encode()
        headers = {"Authorization": f"Bearer {edge.access_token}"}
        sending = session.request(method, f"http://127.0.0.1:{port}{path}", json=body, headers=headers)
        acting = asyncio.ensure_future(sending)
        await is_written(edge, case, link)
        relay.kill()
        with pytest.raises(aiohttp.ClientError):
            await acting
        await is_recorded_once(edge, case)
        bucket = Bucket(edge.broker, ACCESS_BUCKET)
        [key] = await bucket.keys("enroll.*")
        assert (await bucket.get(key)).ends_at is not None
