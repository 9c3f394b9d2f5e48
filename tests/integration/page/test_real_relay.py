"""The page's application in front of real relays: what a user of Airflow does arrives there as theirs, and no more."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
import uvicorn

from edge_bridge.page.app import build_page
from edge_bridge.page.callers import Caller, find_caller
from edge_bridge.page.settings import PageSettings
from edge_schemas.admin.access import Role
from support.nats.server import eventually, free_port
from support.relay.edge import Edge, running_edge

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
async def edge(tmp_path: Path) -> AsyncIterator[Edge]:
    """Two replicas before one NATS."""
    async with running_edge(tmp_path, replicas=2) as running:
        yield running


@asynccontextmanager
async def _page(edge: Edge, token: str, role: Role, *dead: str) -> AsyncIterator[aiohttp.ClientSession]:
    """A browser of a user with this role; the application is served as Airflow serves it."""
    urls = (*dead, *(relay.operators_url for relay in edge.relays))
    app = await asyncio.to_thread(build_page, lambda: PageSettings(urls, token, ssl.create_default_context()))
    app.dependency_overrides[find_caller] = lambda: Caller("Jürgen", role)
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_config=None))
    serving = asyncio.create_task(server._serve())  # its signal handlers are for processes
    try:
        await eventually(lambda: server.started, what="the application is served")
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as browser:
            yield browser
    finally:
        server.should_exit = True
        await serving


async def test_a_change_is_made_in_the_name_of_airflows_user(edge: Edge) -> None:
    token = await edge.access_token_for("airflow-1", for_airflow=True)
    worker = (await edge.worker()).name
    async with _page(edge, token, Role.OPERATOR, "http://127.0.0.1:1") as browser:
        async with browser.get("/v1/admin/session") as answer:
            session = await answer.json()
            assert (session["name"], session["role"], session["by"]) == ("Jürgen", "operator", "airflow")
        pause = {"action": {"do": "pause"}, "workers": [worker], "reason": "a test"}
        async with browser.post("/v1/admin/worker-actions", json=pause) as answer:
            assert answer.status == 200, await answer.text()
        async with browser.get(f"/v1/admin/workers/{worker}") as answer:
            assert "a test" in await answer.text()
        async with browser.post("/v1/admin/enroll-tokens", json={"queues": ["q"], "site": "plant"}) as answer:
            assert (answer.status, (await answer.json())["code"]) == (403, "forbidden")
    events = (await edge.admin("GET", "/v1/admin/audit")).json["items"]
    actors = {(event["actor"]["name"], event["actor"].get("by"), event["actor"].get("token")) for event in events}
    assert ("Jürgen", "airflow", "airflow-1") in actors


async def test_changes_arrive_while_they_happen(edge: Edge) -> None:
    token = await edge.access_token_for("airflow", for_airflow=True)
    async with _page(edge, token, Role.VIEWER) as browser, browser.get("/v1/admin/changes") as stream:
        assert (stream.status, stream.content_type) == (200, "text/event-stream")
        await edge.worker()
        seen = b""
        async with asyncio.timeout(20):
            while b"workers" not in seen:
                seen += await stream.content.readany()


async def test_the_token_of_an_operator_is_refused(edge: Edge) -> None:
    token = await edge.access_token_for("ann", role="admin")
    async with _page(edge, token, Role.VIEWER) as browser, browser.get("/v1/admin/workers") as answer:
        problem = await answer.json()
    assert (problem["code"], "was not made for Airflow" in problem["detail"]) == ("relay_unavailable", True)
