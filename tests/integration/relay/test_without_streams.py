"""A relay that is up before its streams are: it waits and says what is missing."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import orjson
import pytest
from structlog.contextvars import merge_contextvars
from structlog.testing import capture_logs
from structlog.typing import EventDict

from edge_broker import layout
from edge_broker.permissions import ADMIN, RELAY
from edge_relay.http.middlewares import BROKER_DETAIL
from edge_relay.serve import Serving, serving
from edge_relay.settings import Settings
from edge_relay.standalone.nats_server import NatsServer, find_binary
from edge_schemas.wire.workers import SecretKind, new_secret
from support.nats.server import PASSWORDS, connected, eventually, free_port


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[NatsServer]:
    bare = NatsServer(find_binary(), tmp_path / "nats", PASSWORDS, port=free_port())
    await bare.start()
    yield bare
    await bare.stop(kill=True)


async def call(relay: Serving, path: str, method: str = "GET", *, operators: bool = False) -> tuple[int, str]:
    listener = relay.operators_url if operators else relay.workers_url
    headers = {"Authorization": f"Bearer {new_secret(SecretKind.WORKER)}"}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.request(method, listener + path) as answer,
    ):
        return answer.status, await answer.text()


@pytest.fixture
def events() -> Iterator[list[EventDict]]:
    """What is logged, with what is bound to it."""
    with capture_logs(processors=[merge_contextvars]) as captured:
        yield captured


async def test_it_waits_for_its_streams(server: NatsServer, tmp_path: Path, events: list[EventDict]) -> None:
    """Operators and the log are told what is missing, workers only that they should come again."""
    (tmp_path / "password").write_text(PASSWORDS[RELAY])
    settings = Settings(
        host="127.0.0.1",
        port=0,
        operators_port=0,
        nats_urls=(server.url,),
        nats_password_file=tmp_path / "password",
    )

    async def says_what_is_missing() -> bool:
        return "streams apply" in (await call(relay, "/readyz", operators=True))[1]

    async def is_ready() -> bool:
        return (await call(relay, "/readyz"))[0] == 200

    async with serving(settings) as relay:
        await eventually(says_what_is_missing)
        for path, method in (("/v1/poll", "POST"), ("/readyz", "GET")):
            status, problem = await call(relay, path, method)
            assert (status, orjson.loads(problem)["code"]) == (503, "broker_unavailable")
            assert orjson.loads(problem)["detail"] == BROKER_DETAIL
            [*_, served] = [event for event in events if event.get("route") == path]
            assert "streams apply" in served["detail"]
        async with connected(server, ADMIN) as admin:
            await layout.apply(admin, layout.LayoutSettings())
        await eventually(is_ready, timeout_s=20)
