"""A keeper against a real Airflow and a real NATS, spoken to as a relay does."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest

from edge_broker.permissions import EXECUTOR, RELAY
from edge_broker.records import RecordStore
from edge_relay.standalone.nats_server import NatsServer
from support.airflow.keeper import Centre, FakeRelay, keeper_settings, running_keeper
from support.airflow.real_airflow import RealAirflow
from support.nats.server import connected, running_server


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
