"""Calls that wait while their access token is revoked, or expires: they end with it."""

import asyncio
from datetime import UTC, datetime, timedelta

from edge_schemas.admin.access import AccessTokenRequest, Role
from edge_schemas.wire import routes
from support.nats.server import eventually
from support.relay.agents import metric
from support.relay.edge import Edge
from support.relay.producers import Producer, producer, token_id


async def revoke(edge: Edge, name: str) -> None:
    """Revoke the access token with this name."""
    reply = await edge.admin("DELETE", f"{routes.ADMIN_ACCESS_TOKENS}/{await token_id(edge, name)}?reason=x")
    assert reply.status == 204, reply.body


async def test_calls_that_wait_end_with_their_token(edge: Edge) -> None:
    """On each replica, within moments: neither status nor log are read with it. Other producers wait on."""
    shop, other = await producer(edge), await producer(edge, name="other")
    job = await shop.submitted()
    calls = [
        asyncio.create_task(call)
        for replica in (0, 1)
        for call in (shop.status(job, wait=50, replica=replica), shop.log(job, wait=50, replica=replica))
    ]
    waits_on = asyncio.create_task(other.status(job, wait=50, replica=1))
    await eventually(lambda: metric(edge, "edge_relay_producer_waits", replica=0) == 2)
    await eventually(lambda: metric(edge, "edge_relay_producer_waits", replica=1) == 3)
    await revoke(edge, "shop")
    replies = await asyncio.wait_for(asyncio.gather(*calls), 10)
    assert {reply.code for reply in replies} == {"credential_revoked"}
    assert not waits_on.done()
    await other.cancel(job)
    assert (await asyncio.wait_for(waits_on, 10)).json["state"] == "ended"


async def test_a_call_waits_no_longer_than_its_token_is_valid(edge: Edge) -> None:
    """The token expires two seconds later."""
    job = await (await producer(edge)).submitted()
    request = AccessTokenRequest(name="brief", role=Role.PRODUCER, queues=("default",), ttl_s=60)
    token = await edge.access.create(request, now=datetime.now(UTC) - timedelta(seconds=58))
    brief = Producer(edge, token.token)
    replies = await asyncio.wait_for(asyncio.gather(brief.status(job, wait=50), brief.log(job, wait=50)), 20)
    assert {reply.code for reply in replies} == {"unauthenticated"}
