"""The links that the other tests here cut do what they say."""

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web

from support.network.http_link import Fault, HttpLink, Point
from support.network.link import Cut, Link

pytestmark = pytest.mark.timeout(20)


class Upstream:
    """Counts what arrives, and answers with the number."""

    url: str = ""

    def __init__(self) -> None:
        self.arrived = 0
        self.gone = asyncio.Event()

    async def answer(self, request: web.Request) -> web.Response:
        self.arrived += 1
        number = self.arrived
        if request.path == "/parked":
            try:
                await asyncio.Event().wait()
            finally:
                self.gone.set()
        await request.read()
        return web.Response(text=f"answer {number}")


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    app, upstream = web.Application(), Upstream()
    app.router.add_route("*", "/{path:.*}", upstream.answer)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    upstream.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield upstream
    await runner.cleanup()


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
        yield session


async def _ask(client: aiohttp.ClientSession, port: int, path: str = "/x", timeout_s: float = 5) -> tuple[int, str]:
    timeout = aiohttp.ClientTimeout(total=timeout_s)
    async with client.post(f"http://127.0.0.1:{port}{path}", data=b"body", timeout=timeout) as reply:
        return reply.status, await reply.text()


@pytest.mark.parametrize("kind", [Link, HttpLink])
async def test_a_cut_link_passes_nothing_until_it_is_restored(
    upstream: Upstream, client: aiohttp.ClientSession, kind: type[Link | HttpLink]
) -> None:
    async with kind.to(upstream.url) as link:
        assert await _ask(client, link.port) == (200, "answer 1")
        await link.cut(Cut.REFUSE)
        with pytest.raises(aiohttp.ClientError):
            await _ask(client, link.port)
        with pytest.raises(aiohttp.ClientConnectorError):
            await _ask(client, link.port)
        await link.cut(Cut.RESET)
        with pytest.raises((aiohttp.ClientError, ConnectionResetError)):
            await _ask(client, link.port)
        await link.restore()
        assert await _ask(client, link.port) == (200, "answer 2")
        await link.cut(Cut.BLACK_HOLE)
        for _ in range(2):  # a kept-alive connection, and a new one
            with pytest.raises(TimeoutError):
                await _ask(client, link.port, timeout_s=0.2)
        await link.restore()
        assert upstream.arrived == 2
        assert await _ask(client, link.port) == (200, "answer 3")


@pytest.mark.parametrize("kind", [Link, HttpLink])
async def test_a_short_black_hole_keeps_connections_if_told_so(
    upstream: Upstream, client: aiohttp.ClientSession, kind: type[Link | HttpLink]
) -> None:
    async with kind.to(upstream.url) as link:
        await _ask(client, link.port)
        await link.cut(Cut.BLACK_HOLE, lasts_s=0.2, keeps=True)
        assert await _ask(client, link.port) == (200, "answer 2")
        assert link.seen.connections == 1


@pytest.mark.parametrize("fault", [Fault.REFUSE, Fault.RESET, Fault.BLACK_HOLE])
@pytest.mark.parametrize("point", Point)
async def test_one_request_is_lost_before_or_after_it_arrived(
    upstream: Upstream, client: aiohttp.ClientSession, fault: Fault, point: Point
) -> None:
    async with HttpLink.to(upstream.url) as link:
        strike = link.arm(fault, "POST", r"^/x$", at=point, lasts_s=0.1)
        with pytest.raises((aiohttp.ClientError, ConnectionResetError, TimeoutError)):
            await _ask(client, link.port, timeout_s=0.3)
        assert strike.happened.is_set()
        arrived = int(point is Point.ANSWER)
        assert (upstream.arrived, link.seen.count("POST", "^POST /x$")) == (arrived, arrived)
        await link.restored()
        assert await _ask(client, link.port) == (200, f"answer {arrived + 1}")


async def test_foreign_and_half_answers(upstream: Upstream, client: aiohttp.ClientSession) -> None:
    async with HttpLink.to(upstream.url) as link:
        for point, arrived in ((Point.REQUEST, 0), (Point.ANSWER, 1)):
            link.arm(Fault.BAD_GATEWAY, "POST", "/x", at=point)
            status, text = await _ask(client, link.port)
            assert (status, "502 Bad Gateway" in text, upstream.arrived) == (502, True, arrived)
        link.arm(Fault.HALF_ANSWER, "POST", "/x", at=Point.ANSWER, answer_holds=b"answer 3")
        assert await _ask(client, link.port) == (200, "answer 2")
        with pytest.raises(aiohttp.ClientError):
            await _ask(client, link.port)
        assert await _ask(client, link.port) == (200, "answer 4")


@pytest.mark.parametrize("fault", [Fault.REPEAT, Fault.REPEAT_AT_ONCE])
async def test_a_repeated_request_arrives_twice(
    upstream: Upstream, client: aiohttp.ClientSession, fault: Fault
) -> None:
    async with HttpLink.to(upstream.url) as link:
        link.arm(fault, "POST", "/x")
        status, text = await _ask(client, link.port)
        assert (status, upstream.arrived) == (200, 2)
        assert fault is Fault.REPEAT_AT_ONCE or text == "answer 2"


async def test_a_client_that_goes_is_seen_to_go(upstream: Upstream, client: aiohttp.ClientSession) -> None:
    async with HttpLink.to(upstream.url) as link:
        with pytest.raises(TimeoutError):
            await _ask(client, link.port, "/parked", timeout_s=0.2)
        async with asyncio.timeout(5):
            await upstream.gone.wait()
