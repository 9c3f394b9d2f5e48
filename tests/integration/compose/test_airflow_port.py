"""The local system when another program takes Airflow's port after it was chosen."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from local.processes.child import ChildFailed
from local.system.airflow import ONLY_RELAY, Airflow
from local.system.relay import RelayFacts


@asynccontextmanager
async def other_airflow(port: int) -> AsyncIterator[None]:
    """Healthy, and with another password."""

    async def answer(request: web.Request) -> web.Response:
        if request.path == "/auth/token":
            return web.json_response({"detail": "Invalid credentials"}, status=401)
        return web.json_response({key: {"status": "healthy"} for key in ("metadatabase", "scheduler", "dag_processor")})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield
    finally:
        await runner.cleanup()


@pytest.fixture
def airflow(tmp_path: Path) -> Airflow:
    return Airflow(tmp_path, [], executor=ONLY_RELAY, gate_ports=[], auxiliary_queue="plant")


async def test_a_port_that_was_taken_before_the_start_is_named(airflow: Airflow, tmp_path: Path) -> None:
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", airflow.port)
    async with server:
        with pytest.raises(ChildFailed, match=f"port {airflow.port} was free and is now used by another program"):
            await airflow.start(RelayFacts("", "", tmp_path, "", tmp_path, tmp_path))
    assert not airflow.children


async def test_another_airflow_on_the_port_is_not_taken_for_ours(airflow: Airflow) -> None:
    async with other_airflow(airflow.port):
        with pytest.raises(ChildFailed, match=f"port {airflow.port} was free"):
            await airflow.is_ready()
    await airflow.stop()
