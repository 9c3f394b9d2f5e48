"""A site that loses its link is one event, a worker that dies another; two replicas report each of them once."""

from pathlib import Path
from typing import Any

from edge_relay.fleet.workers.outages import Outages
from edge_schemas.wire import routes
from support.nats.server import eventually
from support.network.link import Cut
from support.relay.agents import Agent, agent, arrived
from support.relay.edge import Edge, running_edge
from support.relay.fleet import audit

SILENCE_S = 16.0
"""A worker with short polls is offline after 15 s."""


async def events(edge: Edge) -> list[tuple[str, str, dict[str, Any]]]:
    """Action, target and facts of all events about outages."""
    found = [*await audit(edge, "site"), *await audit(edge, "worker")]
    return [(one.action, one.target, one.facts or {}) for one in found if one.action.endswith(("-offline", "-online"))]


async def here(*workers: Agent) -> None:
    """Each of them polls."""
    for worker in workers:
        assert (await worker.poll(poll_timeout_s=0)).status == 204


def later(edge: Edge, seconds: float) -> None:
    """As if so much time had passed at every replica."""
    for relay in edge.relays:
        relay.parts.exports.fleet.clock._outages_s -= seconds  # the clock, without a wait


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


async def test_neither_a_broker_outage_nor_a_restart_of_the_relays_is_an_outage_of_a_site(tmp_path: Path) -> None:
    """And an outage that was reported before the restart is not reported again, but its end is."""
    async with running_edge(tmp_path, linked=True, replicas=2) as edge:
        lost, well = await agent(edge, site="lost"), await agent(edge, site="well")
        await here(lost, well)
        await known(edge, lost, well)
        await edge.nats_link.cut(Cut.RESET)
        await eventually(lambda: not any(one.parts.broker.connected for one in edge.relays), what="NATS is away")
        check(edge)
        await edge.nats_link.restore()
        await eventually(lambda: all(one.parts.broker.connected for one in edge.relays), what="NATS is back")
        for _ in range(4):
            check(edge)
            later(edge, SILENCE_S / 4)
            await here(well)
            await known(edge, well)
        await eventually(lambda: _has(edge, ("site-offline", "lost")), what="the outage is reported")
        # A replica that starts now knows nothing of it but the stream.
        fleet, parts = edge.relays[0].parts.exports.fleet, edge.relays[0].parts
        newer = Outages(parts.broker, fleet, parts.identity.credentials, parts.audit)
        for _ in range(5):
            newer.check()
            later(edge, SILENCE_S / 4)
            await here(well)
            await known(edge, well)
        await newer.report_all()
        assert len(await events(edge)) == 1
        await here(lost)
        await known(edge, lost)
        newer.check()
        await newer.report_all()
        await eventually(lambda: _has(edge, ("site-online", "lost")), what="the return is reported")
        await _both_have_reported(edge)
        assert [action for action, _, _ in await events(edge)] == ["site-offline", "site-online"]


async def _has(edge: Edge, wanted: tuple[str, str]) -> bool:
    return wanted in [(action, target) for action, target, _ in await events(edge)]
