"""Producers that try what they may not, and too much of it; workers are served beside them."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from edge_schemas.admin.access import Role
from edge_schemas.wire import routes
from support.nats.server import eventually
from support.relay.agents import agent, metric, publish
from support.relay.edge import Edge, Reply, running_edge
from support.relay.producers import Producer, producer, token_id


@pytest.fixture
async def edge(tmp_path: Path) -> AsyncIterator[Edge]:
    """Small limits."""
    limits: dict[str, Any] = {
        "waiting_jobs": 5,
        "waits_per_producer": 2,
        "producer_calls_per_s": 20,
        "submissions_per_s": 20,
    }
    async with running_edge(tmp_path, **limits) as running:
        yield running


async def calls_of(shop: Producer, queue: str, job: str) -> dict[str, Reply]:
    """Every call of a producer."""
    body = {"payload": {"text": "x"}}
    return {
        "submit": await shop.submit(queue),
        "batch": await shop.call("POST", routes.QUEUE_JOB_BATCHES.format(queue=queue), json={"jobs": [body]}),
        "list": await shop.list(queue=queue),
        "queue": await shop.call("GET", routes.QUEUE.format(queue=queue)),
        "status": await shop.status(job),
        "log": await shop.log(job),
        "cancel": await shop.cancel(job),
    }


async def codes(shop: Producer, queue: str, job: str) -> dict[str, str | int]:
    return {name: reply.code or reply.status for name, reply in (await calls_of(shop, queue, job)).items()}


READS = {"list": 200, "queue": 200, "status": 200, "log": 200}
CHANGES = {"submit": 201, "batch": 200, "cancel": 200}


async def test_who_may_do_what(edge: Edge) -> None:
    """By role and scope; a job of a foreign queue is as one that does not exist."""
    job = await (await producer(edge)).submitted()
    airflows = (await edge.job()).id
    everyone = {
        role: Producer(edge, await edge.access_token_for(f"a {role}", role=role))
        for role in Role
        if role != Role.PRODUCER
    }
    found = {role: await codes(one, "default", job) for role, one in everyone.items()}
    assert found[Role.ADMIN] == found[Role.OPERATOR] == {**READS, **CHANGES}
    assert found[Role.VIEWER] == {**READS, **dict.fromkeys(CHANGES, "forbidden")}
    other = await producer(edge, "other", name="other")
    foreign = dict.fromkeys(("submit", "batch", "list", "queue"), "forbidden")
    assert await codes(other, "default", job) == {**foreign, **dict.fromkeys(("status", "log", "cancel"), "not_found")}
    shop = await producer(edge, name="shop 2")
    unknown = "00000000-0000-4000-8000-000000000000"
    for wrong in (airflows, unknown):
        assert {(await shop.status(wrong)).code, (await shop.log(wrong)).code, (await shop.cancel(wrong)).code} == {
            "not_found"
        }
    limited = await edge.access_token_for("at a site", role=Role.OPERATOR, sites=["plant"])
    assert set((await codes(Producer(edge, limited), "default", job)).values()) == {"forbidden"}
    of_airflow = await edge.access_token_for("airflow", for_airflow=True)
    assert set((await codes(Producer(edge, of_airflow), "default", job)).values()) == {"forbidden"}


async def test_without_a_valid_token_nothing_is_answered(edge: Edge) -> None:
    shop, worker = await producer(edge), await edge.worker()
    job = await shop.submitted()
    revoked = await producer(edge, name="gone")
    await edge.admin("DELETE", f"{routes.ADMIN_ACCESS_TOKENS}/{await token_id(edge, 'gone')}?reason=x")
    for secret, code in ((worker.secret, "unauthenticated"), ("era_" + "x" * 43, "unauthenticated")):
        assert set((await codes(Producer(edge, secret), "default", job)).values()) == {code}
    assert set((await codes(revoked, "default", job)).values()) == {"credential_revoked"}


async def test_a_producer_has_no_access_as_a_worker_or_an_operator(edge: Edge) -> None:
    shop = await producer(edge)
    job = await shop.submitted()
    assert (await shop.call("POST", routes.POLL, json={})).code == "unauthenticated"
    start = {"receipt": "x", "incarnation": 1}
    assert (await shop.call("POST", routes.JOB_START.format(job=job), json=start)).code == "unauthenticated"
    assert (await shop.call("PUT", f"{routes.JOB_LOG.format(job=job)}?offset=0", body=b"x")).code == "unauthenticated"
    for path in (routes.ADMIN_SESSION, routes.ADMIN_JOBS, routes.ADMIN_OVERVIEW):
        assert (await shop.call("GET", path, operators=True)).code == "forbidden"
    signed_in = await shop.edge.call(
        "POST",
        routes.ADMIN_SIGN_IN,
        json={"token": shop.secret},
        operators=True,
        headers={"Sec-Fetch-Site": "same-origin"},
    )
    assert signed_in.code == "forbidden"


async def test_waiting_jobs_are_limited_and_a_repeat_is_none(edge: Edge) -> None:
    shop = await producer(edge)
    first = await shop.submitted(key="first")
    for _ in range(4):
        await shop.submitted()
    await eventually(lambda: edge.relays[0].parts.known_jobs.waiting("default", "shop") == 5)
    refused = await shop.submit()
    assert (refused.status, refused.code) == (429, "rate_limited")
    assert "5 jobs of shop wait in queue default" in refused.json["detail"]
    assert int(refused.headers["Retry-After"]) >= 1
    [one] = (await shop.batch({"payload": {"text": "x"}})).json["jobs"]
    assert (one["code"], one["retryable"]) == ("rate_limited", True)
    assert (await shop.submit(key="first")).json["is_new"] is False
    assert metric(edge, "edge_relay_limited_total", {"limit": "waiting_jobs"}) == 2
    assert (await (await producer(edge, name="another")).submit()).status == 201, "the limit is each producer's own"
    await shop.cancel(first)
    await eventually(lambda: edge.relays[0].parts.known_jobs.waiting("default", "shop") == 4)
    assert (await shop.submit()).status == 201


async def test_calls_that_wait_are_limited(edge: Edge) -> None:
    shop = await producer(edge)
    job = await shop.submitted()
    calls = [asyncio.create_task(shop.status(job, wait=20)) for _ in range(2)]
    await eventually(lambda: metric(edge, "edge_relay_producer_waits") == 2)
    refused = await shop.status(job, wait=20)
    assert (refused.status, refused.code) == (429, "rate_limited")
    assert (await shop.status(job)).status == 200, "without a wait"
    await shop.cancel(job)
    assert {reply.json["state"] for reply in await asyncio.gather(*calls)} == {"ended"}


async def test_a_flood_of_one_producer_harms_neither_workers_nor_others(edge: Edge) -> None:
    shop, other, one = await producer(edge), await producer(edge, "other", name="other"), await agent(edge)
    ended = await shop.submitted()
    await shop.cancel(ended)
    flood = asyncio.gather(*(shop.status(ended) for _ in range(300)))
    job = await publish(edge.broker)
    [grant] = await one.grants()
    assert grant["job"]["id"] == job.id
    assert (await one.start(grant)).status == 204
    assert (await other.submit()).status == 201
    replies = await flood
    assert {reply.status for reply in replies} == {200, 429}
    assert all("Retry-After" in reply.headers for reply in replies if reply.status == 429)


async def test_a_body_is_read_from_a_producer_only(edge: Edge) -> None:
    """A stranger's body, of whatever size and type, is not looked at."""
    path = routes.QUEUE_JOBS.format(queue="default")
    reply = await edge.call(
        "POST", path, "era_" + "x" * 43, body=b"x" * (9 << 20), headers={"Content-Type": "text/plain"}
    )
    assert reply.code == "unauthenticated"
    shop = await producer(edge)
    reply = await shop.call("POST", path, body=b"{}", headers={"Content-Type": "text/plain"})
    assert reply.code == "unsupported_media_type"
    for queue in ("%20", "a%00b", "x" * 300):
        assert (await shop.list(queue=queue)).code in {"invalid_request", "forbidden"}
    assert (await shop.status("no-id")).code == "invalid_request"
