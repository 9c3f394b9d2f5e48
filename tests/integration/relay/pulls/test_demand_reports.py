"""What a replica tells the executors about the free slots that wait at it."""

import asyncio

from edge_broker.connection.subscriptions import Message
from edge_broker.subjects import RELAY_DEMAND
from edge_schemas.wire.worker_entry import RelayDemand
from support.nats.server import eventually
from support.relay.agents import agent, publish
from support.relay.edge import Edge


async def test_free_slots_are_reported_when_polls_come_and_go(edge: Edge) -> None:
    """Each replica reports its own; a slot that a job has taken is gone from the next report."""
    latest: dict[str, dict[str, int]] = {}

    async def note(message: Message) -> None:
        demand = RelayDemand.model_validate_json(message.data)
        latest[demand.relay] = {one.consumer: one.free_slots for one in demand.queues}

    await edge.broker.subscribe(RELAY_DEMAND, note)
    names = [relay.parts.settings.name for relay in edge.relays]
    first, second = await agent(edge), await agent(edge, replica=1)
    polls = [asyncio.create_task(first.poll(free=3)), asyncio.create_task(second.poll(free=2))]
    await eventually(lambda: [latest.get(name) for name in names] == [{"default": 3}, {"default": 2}])
    for _ in range(2):
        await publish(edge.broker)
    await asyncio.gather(*polls)
    await eventually(lambda: [latest[name] for name in names] == [{}, {}], what="no poll is left")
