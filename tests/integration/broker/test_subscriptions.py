"""Subscriptions hold over every connection, whenever they were asked for."""

from pathlib import Path

import pytest

from edge_broker.connection.subscriptions import Message
from edge_broker.permissions import ADMIN
from support.nats.server import connected, eventually, running_server

SUBJECT = "edge.notices.test"


@pytest.mark.parametrize("away", [True, False])
async def test_what_was_asked_for_while_the_server_was_away_is_heard_afterwards(tmp_path: Path, *, away: bool) -> None:
    """nats-py takes up, when it reconnects, only what it knew before."""
    heard: list[bytes] = []

    async def take(message: Message) -> None:
        heard.append(message.data)

    async with running_server(tmp_path) as server, connected(server, ADMIN) as broker:
        if not away:
            await broker.subscribe(SUBJECT, take)
        await server.stop(kill=True)
        await eventually(lambda: not broker.connected, what="the loss is noticed")
        forgotten = await broker.subscribe(SUBJECT, take)
        if away:
            await broker.subscribe(SUBJECT, take)
        await broker.unsubscribe(forgotten)
        await server.start()
        await broker.wait_connected(20)
        await broker.publish(SUBJECT, b"once")
        await broker.api("STREAM.INFO.EDGE_JOBS")
        await eventually(lambda: heard, what="the message")
        assert heard == [b"once"]
