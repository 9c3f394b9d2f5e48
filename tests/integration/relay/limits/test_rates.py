"""Polls and look-ups beyond their rate are answered 429 with Retry-After; others notice nothing."""

import asyncio
from pathlib import Path

import pytest

from edge_broker.bucket import Stored
from edge_relay.identity import lookups
from edge_schemas.wire import routes
from edge_schemas.wire.workers import SecretKind, new_secret
from support.nats.server import eventually
from support.relay.agents import agent, metric
from support.relay.edge import Edge, Reply, running_edge


def refused(reply: Reply) -> bool:
    assert reply.status in {204, 401, 403, 429}
    if reply.status == 429:
        assert reply.code == "rate_limited"
        assert int(reply.headers["Retry-After"]) >= 1
    return reply.status == 429


async def test_polls_of_one_worker(tmp_path: Path) -> None:
    async with running_edge(tmp_path, polls_per_s=2) as edge:
        busy, other = await agent(edge), await agent(edge)
        replies = [await busy.poll(poll_timeout_s=0) for _ in range(30)]
        served = [reply for reply in replies if not refused(reply)]
        assert 10 <= len(served) < 25
        assert (await other.poll(poll_timeout_s=0)).status == 204
        assert metric(edge, "edge_relay_limited_total", {"limit": "polls"}) == 30 - len(served)

        async def again() -> bool:
            return (await busy.poll(poll_timeout_s=0)).status == 204

        await eventually(again, what="the worker polls again")


@pytest.mark.parametrize("kind", [SecretKind.WORKER, SecretKind.ENROLLMENT])
async def test_made_up_secrets_of_one_address(tmp_path: Path, kind: SecretKind) -> None:
    """Ten seconds' look-ups at once, and then the rate: each one is a read through the stream leader."""
    async with running_edge(tmp_path, lookups_per_address_per_s=2) as edge:
        one = await agent(edge)
        path = routes.POLL if kind is SecretKind.WORKER else routes.ENROLL
        replies = [await edge.call("POST", path, new_secret(kind), json={}) for _ in range(60)]
        assert 20 <= sum(not refused(reply) for reply in replies) < 40
        assert metric(edge, "edge_relay_limited_total", {"limit": "lookups_of_address"}) >= 20
        assert (await one.poll(poll_timeout_s=0)).status == 204


async def test_made_up_secrets_of_all_addresses(tmp_path: Path) -> None:
    async with running_edge(tmp_path, lookups_per_s=1) as edge:
        token = await edge.token()
        secrets = [new_secret(SecretKind.ENROLLMENT) for _ in range(30)]
        replies = await asyncio.gather(*(edge.call("POST", routes.ENROLL, secret, json={}) for secret in secrets))
        assert any(refused(reply) for reply in replies)
        assert metric(edge, "edge_relay_limited_total", {"limit": "lookups"}) >= 1

        async def enrolled() -> bool:
            return (await edge.enroll(token)).status == 200

        await eventually(enrolled, what="a worker enrols")


@pytest.mark.parametrize("kind", [SecretKind.WORKER, SecretKind.ENROLLMENT])
async def test_one_made_up_secret_costs_one_read(edge: Edge, kind: SecretKind, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its answer counts for a while, also for many calls at once after the first one."""
    monkeypatch.setattr(lookups, "KEPT_S", 60.0)
    reads = 0
    bucket = edge.relays[0].parts.identity.lookups._bucket
    get = bucket.get

    async def counted(key: str) -> Stored:
        nonlocal reads
        reads += 1
        return await get(key)

    monkeypatch.setattr(bucket, "get", counted)
    secret, path = new_secret(kind), routes.POLL if kind is SecretKind.WORKER else routes.ENROLL
    await edge.call("POST", path, secret, json={})
    replies = await asyncio.gather(*(edge.call("POST", path, secret, json={}) for _ in range(100)))
    assert {reply.status for reply in replies} <= {401, 403}
    assert reads == 1
