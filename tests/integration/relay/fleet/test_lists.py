"""What operators see of workers, sites and queues, asked at two replicas before a real NATS."""

from typing import Any

import pytest

from edge_broker.jetstream.consumer_info import consumer_info
from edge_broker.layout import ensure_consumer
from edge_broker.subjects import JOBS
from edge_schemas.admin.access import AccessScope
from edge_schemas.wire import routes
from edge_schemas.wire.jobs import JobKind
from support.nats.server import eventually
from support.relay.agents import Agent, agent, arrived, publish
from support.relay.edge import Edge
from support.relay.fleet import listed, token
from support.relay.jobs import command_job, make_job, payload_job


async def one_of_each(edge: Edge) -> list[Agent]:
    """Workers at two sites; the last one has never polled."""
    workers = [await agent(edge, site=site, queue=queue) for site, queue in (("a", "default"), ("b", "gpu"))]
    for worker in workers:
        assert (await worker.poll(poll_timeout_s=0, free=2, slots=3)).status == 204
        await arrived(edge, worker)
    return [*workers, await agent(edge, site="b", queue="gpu")]


async def test_workers_are_listed_by_every_replica(edge: Edge) -> None:
    one, other, silent = await one_of_each(edge)
    for replica in (0, 1):

        async def all_known(replica: int = replica) -> bool:
            rows = await listed(edge, routes.ADMIN_WORKERS, replica=replica)
            return [row["state"] for row in rows].count("online") == 2 and len(rows) == 3

        await eventually(all_known, what="the replica knows all workers")
        rows = {row["worker"]: row for row in await listed(edge, routes.ADMIN_WORKERS, replica=replica)}
        assert rows.keys() == {one.name, other.name, silent.name}
        assert rows[one.name]["site"] == "a"
        assert (rows[one.name]["slots"], rows[one.name]["free"], rows[one.name]["running"]) == (3, 2, 0)
        assert rows[silent.name]["state"] == "never seen"
        assert "slots" not in rows[silent.name]
        assert rows[one.name]["settings_version"] == rows[one.name]["applied_version"] == 1


async def test_workers_are_filtered_sorted_and_paged(edge: Edge) -> None:
    one, other, silent = await one_of_each(edge)
    names = sorted([one.name, other.name, silent.name])

    async def found(**query: Any) -> list[str]:
        return [row["worker"] for row in await listed(edge, routes.ADMIN_WORKERS, **query)]

    assert await found(site="a") == [one.name]
    assert sorted(await found(queue="gpu")) == sorted([other.name, silent.name])
    assert await found(state="never%20seen") == [silent.name]
    assert await found(text=one.name.upper()) == [one.name]
    assert await found(text="HOST-OF") == sorted([one.name, other.name])
    assert await found(sort="-worker") == names[::-1]
    # A worker without a value comes last in both directions.
    assert (await found(sort="-last_poll_at"))[-1] == (await found(sort="last_poll_at"))[-1] == silent.name
    pages: list[str] = []
    cursor = ""
    while True:
        reply = await edge.admin("GET", f"{routes.ADMIN_WORKERS}?limit=1{cursor}", replica=len(pages) % 2)
        pages.append(reply.json["items"][0]["worker"])
        assert reply.json["total"] == 3
        if "next" not in reply.json:
            break
        cursor = f"&cursor={reply.json['next']}"
    assert pages == names


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("colour=red", "allowed are: cursor, limit, site"),
        ("limit=0", "limit: "),
        ("limit=1001", "limit: "),
        ("sort=size", "'worker', '-worker'"),
        ("cursor=x", "cursor: must be `next`"),
        ("cursor=WyJ3b3JrZXIiLDEsIngiXQ", "cursor: must be `next`"),  # a number where a name belongs
        ("state=away", "state: "),
        ("site=a&site=b", "may be given once"),
    ],
)
async def test_a_bad_query_is_refused_with_what_is_allowed(edge: Edge, query: str, told: str) -> None:
    reply = await edge.admin("GET", f"{routes.ADMIN_WORKERS}?{query}")
    assert (reply.status, reply.code) == (400, "invalid_request")
    assert told in reply.json["detail"]


async def test_what_has_not_changed_is_not_sent_again(edge: Edge) -> None:
    await one_of_each(edge)
    for route in (routes.ADMIN_WORKERS, routes.ADMIN_SITES, routes.ADMIN_QUEUES, routes.ADMIN_JOBS):
        first = await edge.admin("GET", route)
        again = await edge.admin("GET", route, headers={"If-None-Match": first.headers["ETag"]})
        assert (again.status, again.body) == (304, b"")
        assert again.headers["ETag"] == first.headers["ETag"]
    tag = (await edge.admin("GET", routes.ADMIN_JOBS)).headers["ETag"]
    await publish(edge.broker)

    async def has_changed() -> bool:
        reply = await edge.admin("GET", routes.ADMIN_JOBS, headers={"If-None-Match": tag})
        return reply.status == 200 and len(reply.json["items"]) == 1

    await eventually(has_changed, what="the new job is listed")


async def test_an_operator_sees_their_sites_and_queues_only(edge: Edge) -> None:
    one, other, _ = await one_of_each(edge)
    await publish(edge.broker, make_job("default"))
    await publish(edge.broker, make_job("gpu"))
    limited = {
        "site": await token(edge, AccessScope(sites=("a",))),
        "queue": await token(edge, AccessScope(queues=("default",))),
    }
    for secret in limited.values():

        async def rows(route: str, secret: str = secret) -> list[dict[str, Any]]:
            reply = await edge.call("GET", route, secret, operators=True)
            assert reply.status == 200, reply.body
            return list(reply.json["items"])

        async def one_job() -> bool:
            return [row["queue"] for row in await rows(routes.ADMIN_JOBS)] == ["default"]

        await eventually(one_job, what="the job of the queue")
        assert [row["worker"] for row in await rows(routes.ADMIN_WORKERS)] == [one.name]
        assert [row["site"] for row in await rows(routes.ADMIN_SITES)] == ["a"]
        assert [row["queue"] for row in await rows(routes.ADMIN_QUEUES)] == ["default"]
        hidden = await edge.call("GET", routes.ADMIN_WORKER.format(worker=other.name), secret, operators=True)
        assert hidden.code == "not_found"
        [job] = await listed(edge, routes.ADMIN_JOBS, queue="gpu")
        reply = await edge.call("GET", routes.ADMIN_JOB.format(job=job["job"]), secret, operators=True)
        assert reply.code == "not_found"


async def test_figures_of_a_queue_equal_those_of_nats(edge: Edge) -> None:
    worker = await agent(edge)
    await ensure_consumer(edge.broker, None, "default", JobKind.TASK)
    for _ in range(4):
        await publish(edge.broker)
    held_back = await edge.job()
    grants = await worker.grants(2)
    assert (await worker.start(grants[0])).status == 204

    async def row() -> dict[str, Any]:
        [found] = await listed(edge, routes.ADMIN_QUEUES, queue="default", replica=1)
        return found

    async def settled() -> bool:
        found = await row()
        return (found["waiting"], found["granted"], found["running"], found["held_back"]) == (2, 1, 1, 1)

    await eventually(settled, what="the figures are those of the consumer and the records")
    info = await consumer_info(edge.broker, JOBS, "default")
    assert info is not None
    assert (info["num_pending"], info["num_ack_pending"]) == (2, 1)
    found = await row()
    assert (found["workers"], found["dead"]) == (1, 0)
    assert sum(found["in_per_minute"]) == 5
    assert len(found["in_per_minute"]) == len(found["out_per_minute"]) == 60
    waiting = await listed(edge, routes.ADMIN_JOBS, state="waiting", sort="waits_since", replica=1)
    assert found["oldest_at"] == waiting[0]["waits_since"]
    assert held_back.id in {job["job"] for job in waiting}


async def test_free_slots_are_those_that_would_take_what_waits(edge: Edge) -> None:
    """A worker of commands does not help a queue in which only payloads wait; the figures are sums over all kinds."""
    worker = await agent(edge)
    assert (await worker.poll(poll_timeout_s=0, kinds=["command"], free=2, slots=3)).status == 204
    await arrived(edge, worker)

    async def figures() -> tuple[int, ...]:
        [found] = await listed(edge, routes.ADMIN_QUEUES, queue="default", replica=1)
        return tuple(found[name] for name in ("waiting", "workers", "workers_able", "free_slots"))

    async def has(*wanted: int) -> None:
        async def shown() -> bool:
            return await figures() == wanted

        await eventually(shown, what=f"the queue has {wanted}")

    await has(0, 1, 1, 2)
    await publish(edge.broker, payload_job())
    await has(1, 1, 0, 0)
    await publish(edge.broker, command_job())
    await has(2, 1, 1, 2)


async def test_a_site_shows_how_its_workers_are(edge: Edge) -> None:
    await one_of_each(edge)
    await edge.worker(site="empty")
    rows = {row["site"]: row for row in await listed(edge, routes.ADMIN_SITES)}
    assert {site: row["state"] for site, row in rows.items()} == {"a": "online", "b": "online", "empty": "empty"}
    assert (rows["b"]["workers"], rows["b"]["online"], rows["b"]["slots"]) == (2, 1, 3)
