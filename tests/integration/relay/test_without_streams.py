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
from edge_broker.subjects import DESIRED_BUCKET, kv_stream
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


async def test_an_upgraded_relay_waits_for_a_bucket_that_is_new(server: NatsServer, tmp_path: Path) -> None:
    """The streams are those of an older release: the relay names the missing bucket, and serves once it is there."""
    (tmp_path / "password").write_text(PASSWORDS[RELAY])
    settings = Settings(
        host="127.0.0.1", port=0, operators_port=0, nats_urls=(server.url,), nats_password_file=tmp_path / "password"
    )
    async with connected(server, ADMIN) as admin:
        await layout.apply(admin, layout.LayoutSettings())
        await admin.api(f"STREAM.DELETE.{kv_stream(DESIRED_BUCKET)}")
        async with serving(settings) as relay:

            async def says() -> str:
                return (await call(relay, "/readyz", operators=True))[1]

            async def is_named() -> bool:
                return (
                    f"stream {kv_stream(DESIRED_BUCKET)} does not exist: run 'edge-relay streams apply'" in await says()
                )

            async def is_ready() -> bool:
                return (await call(relay, "/readyz"))[0] == 200

            await eventually(is_named)
            assert not await is_ready()
            await layout.apply(admin, layout.LayoutSettings())
            await eventually(is_ready, timeout_s=20)
