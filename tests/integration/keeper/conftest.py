"""A keeper against a real Airflow and a real NATS, spoken to as a relay does."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from edge_broker.permissions import EXECUTOR, RELAY
from edge_broker.records import RecordStore
from edge_relay.standalone.nats_server import NatsServer
from support.airflow.keeper import Centre, FakeRelay, Handler, keeper_settings, running_keeper
from support.airflow.real_airflow import RealAirflow
from support.nats.server import connected, free_port, running_server


@pytest.fixture
async def nats(tmp_path: Path) -> AsyncIterator[NatsServer]:
    """A NATS of this test's own."""
    async with running_server(tmp_path / "nats") as running:
        yield running


@pytest.fixture
async def centre(airflow: RealAirflow, nats: NatsServer) -> AsyncIterator[Centre]:
    """A keeper with a relay that calls it and an executor that publishes."""
    async with AsyncExitStack() as stack:
        broker = await stack.enter_async_context(connected(nats, EXECUTOR))
        relay_broker = await stack.enter_async_context(connected(nats, RELAY))
        keeper = await stack.enter_async_context(running_keeper(keeper_settings(nats, airflow)))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        yield Centre(keeper, FakeRelay(session, port=keeper.port), RecordStore(broker), relay_broker, nats)


@pytest.fixture
async def fragile(airflow: RealAirflow, nats: NatsServer) -> AsyncIterator[tuple[Centre, list[Handler]]]:
    """A centre whose api-server answers as the last handler of the list says, and is away while there is none."""
    handlers: list[Handler] = []
    port = free_port()

    async def handle(request: web.Request) -> web.StreamResponse:
        if not handlers:
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        return await handlers[-1](request)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    settings = replace(keeper_settings(nats, airflow), execution_api_url=f"http://127.0.0.1:{port}/execution/")
    async with (
        connected(nats, EXECUTOR) as broker,
        running_keeper(settings) as keeper,
        aiohttp.ClientSession() as session,
    ):
        yield Centre(keeper, FakeRelay(session, port=keeper.port), RecordStore(broker), broker, nats), handlers
    await runner.cleanup()
