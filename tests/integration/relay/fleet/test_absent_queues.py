"""Queues that exist nowhere: an operator may order something for them, and sees that there is no such queue yet."""

from typing import Any

import pytest

from edge_schemas.wire import routes
from support.nats.server import eventually
from support.relay.edge import Edge
from support.relay.fleet import listed


async def act_on_queue(edge: Edge, queue: str, *, dry_run: bool = False, **action: Any) -> dict[str, Any]:
    body = {"action": action, "queues": [{"queue": queue}], "reason": "a test", "dry_run": dry_run}
    reply = await edge.admin("POST", routes.ADMIN_QUEUE_ACTIONS, body)
    assert reply.status == 200, reply.body
    return dict(reply.json)


async def row_of(edge: Edge, queue: str) -> dict[str, Any] | None:
    return next(iter(await listed(edge, routes.ADMIN_QUEUES, queue=queue)), None)


@pytest.mark.parametrize("action", [{"do": "pause"}, {"do": "set", "max_running": 3}])
async def test_an_order_on_a_queue_that_does_not_exist_is_named_and_listed(edge: Edge, action: dict[str, Any]) -> None:
    await edge.worker(queue="milling")

    async def is_known() -> bool:
        return (await row_of(edge, "milling") or {}).get("exists") is True

    await eventually(is_known, what="the worker's queue")
    assert not (await act_on_queue(edge, "milling", **action)).get("absent")
    assert (await act_on_queue(edge, "miling", dry_run=True, **action))["absent"] == ["miling"]
    assert await row_of(edge, "miling") is None, "a dry run stores nothing"
    assert (await act_on_queue(edge, "miling", **action))["absent"] == ["miling"]
    row = await row_of(edge, "miling")
    assert row is not None, "the order can be seen and undone"
    assert (row["exists"], row["workers"]) == (False, 0)
    undo = {"do": "resume"} if action["do"] == "pause" else {"do": "set", "max_running": None}
    assert (await act_on_queue(edge, "miling", **undo))["changed_count"] == 1
    assert await row_of(edge, "miling") is None


async def test_a_queue_that_was_ordered_first_exists_with_its_first_worker(edge: Edge) -> None:
    await act_on_queue(edge, "later", do="pause")
    await edge.worker(queue="later")

    async def exists() -> bool:
        row = await row_of(edge, "later")
        assert row is not None
        return row["exists"] is True and row["settings"]["order"]["reason"] == "a test"

    await eventually(exists, what="the queue's worker")


async def test_a_worker_that_is_given_a_queue_which_does_not_exist(edge: Edge) -> None:
    worker = await edge.worker(queue="milling")
    body = {"action": {"do": "set-queues", "add": ["miling"]}, "workers": [worker.name], "reason": "a test"}
    reply = await edge.admin("POST", routes.ADMIN_WORKER_ACTIONS, body)
    assert reply.json["absent"] == ["miling"]

    async def is_known() -> bool:
        return not (await edge.admin("POST", routes.ADMIN_WORKER_ACTIONS, body)).json.get("absent")

    await eventually(is_known, what="the queue, which exists now")
