"""A NATS in which no bundle is published."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from edge_broker.connection.broker import Broker
from edge_broker.permissions import ADMIN
from edge_broker.subjects import BUNDLES, BUNDLES_BUCKET, kv_stream
from edge_relay.standalone.nats_server import NatsServer
from support.nats.server import connected


@asynccontextmanager
async def nothing_published(server: NatsServer) -> AsyncIterator[Broker]:
    """The connection of an admin, once what earlier tests have published is gone."""
    async with connected(server, ADMIN) as admin:
        for stream in (BUNDLES, kv_stream(BUNDLES_BUCKET)):
            await admin.api(f"STREAM.PURGE.{stream}")
        yield admin
