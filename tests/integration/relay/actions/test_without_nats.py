"""The broker is lost under an operator's hands: nothing is confirmed that was not done, and a repeat completes it."""

import asyncio
from pathlib import Path

import pytest

from edge_schemas.wire import routes
from support.nats.server import eventually
from support.network.link import Cut
from support.relay.agents import agent
from support.relay.edge import Edge, running_edge
from support.relay.fleet import listed

WITHIN_S = 12.0


async def pause(edge: Edge, *workers: str) -> tuple[int, str, dict[str, int]]:
    """Status, code and counts of the answer."""
    order = {"action": {"do": "pause"}, "workers": workers, "reason": "new press"}
    async with asyncio.timeout(WITHIN_S):
        reply = await edge.admin("POST", routes.ADMIN_WORKER_ACTIONS, order)
    counts = {name: value for name, value in reply.json.items() if name.endswith("_count") and value}
    return reply.status, reply.code, counts


@pytest.mark.timeout(90)
# A black hole with many targets is in `abuse/test_at_the_same_moment.py`.
@pytest.mark.parametrize("cut", [Cut.REFUSE, pytest.param(Cut.BLACK_HOLE, marks=pytest.mark.soak)])
async def test_a_change_is_refused_while_nats_is_lost_and_repeated_afterwards(tmp_path: Path, cut: Cut) -> None:
    async with running_edge(tmp_path, linked=True) as edge:
        workers = [(await agent(edge)).name for _ in range(3)]
        assert await pause(edge, workers[0]) == (200, "", {"changed_count": 1})
        await edge.nats_link.cut(cut)
        status, code, counts = await pause(edge, *workers)
        if status == 200:  # each target by itself
            assert counts in ({"unchanged_count": 1, "failure_count": 2}, {"failure_count": 3})
        else:
            assert (status, code) == (503, "broker_unavailable")
        rows = {row["worker"]: row for row in await listed(edge, routes.ADMIN_WORKERS)}
        assert rows.keys() == set(workers), "what was known is shown"
        assert rows[workers[0]]["order"]["reason"] == "new press"
        assert all(rows[name].get("order") is None for name in workers[1:])
        await edge.nats_link.restore()

        async def is_done() -> bool:
            return await pause(edge, *workers) == (200, "", {"unchanged_count": 3})

        await eventually(is_done, timeout_s=30, what="a repeat changes nothing any more")
        rows = {row["worker"]: row for row in await listed(edge, routes.ADMIN_WORKERS)}
        assert {row["order"]["reason"] for row in rows.values()} == {"new press"}
