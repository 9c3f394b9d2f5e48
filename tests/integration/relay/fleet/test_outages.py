"""A site that loses its link is one event, a worker that dies another; two replicas report each of them once."""

from typing import Any

import orjson

from edge_broker.jetstream.direct_get import read_batch
from edge_broker.subjects import AUDIT
from edge_schemas.wire import routes
from support.nats.server import eventually
from support.relay.agents import Agent, agent, arrived
from support.relay.edge import Edge

SILENCE_S = 16.0
"""A worker with short polls is offline after 15 s."""


async def events(edge: Edge) -> list[tuple[str, str, dict[str, Any]]]:
    """Action, target and facts of all events about outages, the oldest first."""
    found = await read_batch(edge.broker, AUDIT, "edge.audit.>", after=0, max_messages=500, max_bytes=1 << 20)
    parsed = [orjson.loads(message.data) for message in found.messages]
    return [
        (one["action"], one["target"], one["facts"])
        for one in parsed
        if one["action"].endswith(("-offline", "-online"))
    ]


async def here(*workers: Agent) -> None:
    """Each of them polls."""
    for worker in workers:
        assert (await worker.poll(poll_timeout_s=0)).status == 204


def later(edge: Edge, seconds: float) -> None:
    """As if so much time had passed at every replica."""
    for relay in edge.relays:
        relay.parts.exports.fleet._disconnected_s -= seconds  # the clock, without a wait


def check(edge: Edge) -> None:
    for relay in edge.relays:
        relay.parts.outages.check()


async def known(edge: Edge, *workers: Agent) -> None:
    """Every replica has received the last poll of each worker."""
    for worker in workers:
        await arrived(edge, worker)

        def is_known(name: str = worker.name, seq: int = worker.seq) -> bool:
            entries = [relay.parts.exports.fleet.entry(name) for relay in edge.relays]
            return all(entry is not None and entry.agent.seq == seq for entry in entries)

        await eventually(is_known, what="all replicas know the poll")


async def test_a_site_that_is_lost_is_one_event_and_so_is_its_return(edge: Edge) -> None:
    lost = [await agent(edge, site="plant-7") for _ in range(4)]
    other = await agent(edge, site="shop")
    await here(*lost, other)
    await known(edge, *lost, other)
    for _ in range(4):
        check(edge)
        later(edge, SILENCE_S / 4)
        await here(other)
        await known(edge, other)

    async def actions() -> list[tuple[str, str]]:
        return [(action, target) for action, target, _ in await events(edge)]

    await eventually(lambda: _is(actions, [("site-offline", "plant-7")]), what="the outage is reported")
    [(_, _, facts)] = await events(edge)
    assert facts["workers"] == 4
    assert facts["names"] == ", ".join(sorted(one.name for one in lost))
    reply = await edge.admin("GET", routes.ADMIN_SITES, replica=1)
    [row] = [one for one in reply.json["items"] if one["site"] == "plant-7"]
    assert (row["state"], row["offline"], row["lost_together"]) == ("offline", 4, 4)
    await here(lost[0])
    await eventually(
        lambda: _is(actions, [("site-offline", "plant-7"), ("site-online", "plant-7")]), what="the return is reported"
    )
    # The others have their whole time to come back.
    await here(*lost[1:])
    await known(edge, *lost)
    check(edge)
    await _both_have_reported(edge)
    assert len(await events(edge)) == 2


async def test_a_worker_that_dies_is_told_from_its_site(edge: Edge) -> None:
    dead, alive = await agent(edge, site="plant-7"), await agent(edge, site="plant-7")
    await here(dead, alive)
    await known(edge, dead, alive)
    for _ in range(4):
        check(edge)
        later(edge, SILENCE_S / 4)
        await here(alive)
        await known(edge, alive)

    async def actions() -> list[tuple[str, str]]:
        return [(action, target) for action, target, _ in await events(edge)]

    await eventually(lambda: _is(actions, [("worker-offline", dead.name)]), what="the death is reported")
    await here(dead)
    both = [("worker-offline", dead.name), ("worker-online", dead.name)]
    await eventually(lambda: _is(actions, both), what="the return is reported")


async def _is(actual: Any, wanted: list[tuple[str, str]]) -> bool:
    return bool(await actual() == wanted)


async def _both_have_reported(edge: Edge) -> None:
    await eventually(
        lambda: all(not relay.parts.outages._unreported for relay in edge.relays),
        what="nothing is left to report",
    )
