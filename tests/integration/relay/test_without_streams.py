"""A relay that is up before its streams are: it waits and says what is missing."""

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from edge_relay.nats_server import NatsServer, find_binary
from edge_relay.serve import Serving, serving
from edge_relay.settings import Settings
from edge_schemas.broker import layout
from edge_schemas.broker.permissions import OPERATOR, RELAY
from edge_schemas.workers import SecretKind, new_secret
from support.broker import PASSWORDS, connected, eventually, free_port


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[NatsServer]:
    bare = NatsServer(find_binary(), tmp_path / "nats", PASSWORDS, port=free_port())
    await bare.start()
    yield bare
    await bare.stop(kill=True)


async def call(relay: Serving, path: str, method: str = "GET") -> tuple[int, str]:
    headers = {"Authorization": f"Bearer {new_secret(SecretKind.WORKER)}"}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.request(method, relay.workers_url + path) as answer,
    ):
        return answer.status, await answer.text()


async def test_it_waits_for_its_streams(server: NatsServer, tmp_path: Path) -> None:
    (tmp_path / "password").write_text(PASSWORDS[RELAY])
    settings = Settings(
        host="127.0.0.1",
        port=0,
        operators_port=0,
        nats_urls=(server.url,),
        nats_password_file=tmp_path / "password",
    )

    async def says_what_is_missing() -> bool:
        return "streams apply" in (await call(relay, "/readyz"))[1]

    async def is_ready() -> bool:
        return (await call(relay, "/readyz"))[0] == 200

    async with serving(settings) as relay:
        await eventually(says_what_is_missing)
        status, problem = await call(relay, "/v1/poll", "POST")
        assert (status, "broker_unavailable" in problem) == (503, True), problem
        async with connected(server, OPERATOR) as operator:
            await layout.apply(operator, layout.LayoutSettings())
        await eventually(is_ready, timeout_s=20)
