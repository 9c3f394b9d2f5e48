"""A nats-server frozen behind a connection that stands: the relay no longer knows what is current, and says so."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from edge_schemas.wire import routes
from support.nats.server import eventually
from support.relay.agents import agent, arrived
from support.relay.edge import Edge

ALMOST_OFFLINE_S = 13.0
"""A worker with short polls is offline after 15 s."""
OUTAGE_S = 7.0


@contextmanager
def frozen(edge: Edge) -> Iterator[None]:
    """While inside, nats-server answers nothing and closes nothing."""
    os.kill(edge.server.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(edge.server.pid, signal.SIGCONT)


async def shown(edge: Edge) -> tuple[dict[str, str], datetime]:
    """The states of the workers, and how old they are."""
    reply = await edge.admin("GET", routes.ADMIN_WORKERS)
    page: dict[str, Any] = reply.json
    return {row["worker"]: row["state"] for row in page["items"]}, datetime.fromisoformat(page["as_of"])


async def age_of_list(edge: Edge) -> timedelta:
    _, as_of = await shown(edge)
    return datetime.now(UTC) - as_of


async def test_a_frozen_broker_makes_the_lists_old_and_no_worker_offline(edge: Edge) -> None:
    worker = await agent(edge)
    assert (await worker.poll(poll_timeout_s=0)).status == 204
    await arrived(edge, worker)
    fleet = edge.relays[0].parts.exports.fleet
    await eventually(lambda: fleet.heard_at(worker.name), what="the relay knows the poll")
    fleet.clock._outages_s -= ALMOST_OFFLINE_S  # as if so much time had passed
    states, as_of = await shown(edge)
    assert states == {worker.name: "online"}
    assert datetime.now(UTC) - as_of < timedelta(seconds=2.5)

    async def older_than(age_s: float) -> bool:
        return await age_of_list(edge) > timedelta(seconds=age_s)

    with frozen(edge):
        began = datetime.now(UTC)
        await eventually(lambda: older_than(OUTAGE_S), what="the list says how old it is")
        states, as_of = await shown(edge)
        assert states == {worker.name: "online"}
        assert as_of <= began, "nothing was heard since"
        assert edge.relays[0].parts.broker.connected, "the connection looks alive, or this test shows nothing"
        stream = await edge.admin("GET", routes.ADMIN_CHANGES, to_end=False)
        assert as_of.isoformat()[:19] in stream.body.decode().replace("Z", "+00:00")

    async def is_fresh() -> bool:
        return not await older_than(2.5)

    await eventually(is_fresh, what="the list is current again")
    states, _ = await shown(edge)
    assert states == {worker.name: "online"}, "the outage is no silence"
    fleet.clock._outages_s -= 15 - ALMOST_OFFLINE_S

    async def is_offline() -> bool:
        return (await shown(edge))[0] == {worker.name: "offline"}

    await eventually(is_offline, what="what follows the outage is silence")
