"""Large answers of the api-server are passed on while they arrive, in little memory, and none that is cut off counts.

A relay that does not ask for it, and one answer too many, get whole answers as before.
"""

import asyncio
import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import aiohttp
import orjson
import pytest
from aiohttp import web

from edge_bridge.keeper.gate import upstream
from edge_bridge.keeper.gate.streamed.sending import LARGE_BODY_BYTES
from edge_relay.gate.answers import AnswerBroken, GateAnswer
from edge_relay.gate.client import GateClient
from edge_schemas.gate.auth import SIGNED_AT_END, SIGNED_AT_END_HEADER, GateCall
from edge_schemas.gate.limits import DEFAULT_LIMITS
from edge_schemas.wire.routes import GATE_EXECUTION, ORIGIN_HEADER
from edge_service import body_progress
from edge_service.body_memory import UNCOUNTED
from edge_service.body_progress import Progress
from support.airflow.keeper import KEY, WORKER, Centre, Handler, run_body
from support.airflow.real_airflow import TaskIds, add_task
from support.nats.server import eventually

pytestmark = pytest.mark.timeout(180)  # the first one starts Airflow

BODY = os.urandom(2 * 1024 * 1024)
HALF = len(BODY) // 2
PATH = "variables/x"


@dataclass
class ApiServer:
    """Answers each call with a body that it sends in two halves.

    Attributes:
        go_on: Set when the second half may be sent.
        with_length: The length is announced.
        announced: This one, if not that of the body.
        cut: The connection is cut instead.
        calls: So many were answered.
    """

    go_on: asyncio.Event
    status: int = 200
    content_type: str = "application/json"
    with_length: bool = True
    announced: int | None = None
    cut: bool = False
    calls: int = 0
    body: bytes = BODY

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.calls += 1
        response = web.StreamResponse(status=self.status, headers={"Content-Type": self.content_type})
        if self.with_length:
            response.content_length = self.announced or len(self.body)
        await response.prepare(request)
        half = len(self.body) // 2
        with suppress(ConnectionError):
            await response.write(self.body[:half])
            await self.go_on.wait()
            if self.cut:
                assert request.transport is not None
                request.transport.abort()
            else:
                await response.write(self.body[half:])
        return response


@dataclass
class Scene:
    """A keeper between an api-server and a real relay's client."""

    centre: Centre
    api: ApiServer
    relay: GateClient
    ids: TaskIds

    @asynccontextmanager
    async def begun(self, method: str = "GET", path: str = PATH, body: bytes = b"") -> AsyncIterator[GateAnswer]:
        """An answer that has begun."""
        call = GateCall(method, GATE_EXECUTION.format(job=self.ids.job, path=path), WORKER, "request-0001", body)
        async with self.relay.streamed(call, {}, UNCOUNTED) as answer:
            yield answer

    async def held_bytes(self) -> int:
        """What the keeper's budget of memory counts."""
        url = f"http://127.0.0.1:{self.centre.keeper.port}/metrics"
        async with aiohttp.ClientSession() as session, session.get(url) as scraped:
            [held] = re.findall(r"^edge_keeper_body_bytes (\S+)$", await scraped.text(), re.MULTILINE)
        return int(float(held))


async def rest(answer: GateAnswer) -> bytes:
    """The body of a streamed answer."""
    assert answer.streamed is not None
    progress, body = Progress(), b""
    async for piece in answer.streamed.pieces(progress):
        body += piece
        progress.moved(len(piece))
    return body


@pytest.fixture
async def scene(fragile: tuple[Centre, list[Handler]]) -> AsyncIterator[Scene]:
    centre, handlers = fragile
    api = ApiServer(asyncio.Event())
    handlers.append(api.answer)
    ids = add_task()
    await centre.started(ids)
    async with GateClient((f"http://127.0.0.1:{centre.keeper.port}",), KEY) as relay:
        yield Scene(centre, api, relay, ids)
        api.go_on.set()


async def test_an_answer_is_passed_on_before_all_of_it_is_there(scene: Scene) -> None:
    async with scene.begun() as answer:
        assert answer.streamed is not None
        assert (answer.status, answer.streamed.length) == (200, len(BODY))
        assert answer.headers == {"Content-Type": "application/json", ORIGIN_HEADER: "execution-api"}
        progress, body = Progress(), b""
        async for piece in answer.streamed.pieces(progress):
            progress.moved(len(piece))
            body += piece
            if len(body) > HALF // 2:
                scene.api.go_on.set()
        assert body == BODY
    assert scene.api.calls == 1


async def test_an_answer_that_is_cut_off_is_never_whole(scene: Scene) -> None:
    """The relay must not receive a signature: the keeper knows no more than a part."""
    scene.api.cut = True
    async with scene.begun() as answer:
        scene.api.go_on.set()
        with pytest.raises(AnswerBroken):
            await rest(answer)
    scene.api.cut = False
    async with scene.begun() as answer:
        assert await rest(answer) == BODY


async def test_an_answer_that_stands_still_ends(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_progress, "STALL_S", 0.5)
    async with scene.begun() as answer:
        with pytest.raises(AnswerBroken, match="stood still"):
            await rest(answer)

    async def is_free() -> bool:
        return await scene.held_bytes() == 0

    await eventually(is_free, what="the keeper has dropped the answer")


async def test_what_is_passed_on_leaves_the_budget(scene: Scene) -> None:
    """Before, an answer is counted as a whole: the api-server holds what the keeper has not read."""
    async with scene.begun() as answer:
        assert len(BODY) - LARGE_BODY_BYTES * 16 <= await scene.held_bytes() <= len(BODY)
        scene.api.go_on.set()
        assert await rest(answer) == BODY

    async def is_free() -> bool:
        return await scene.held_bytes() == 0

    await eventually(is_free, what="the answer counts no more")


async def test_an_older_relay_gets_a_whole_answer(scene: Scene) -> None:
    scene.api.go_on.set()
    scene.api.body = b'"' + b"x" * 2 * LARGE_BODY_BYTES + b'"'
    reply = await scene.centre.relay.call("GET", scene.ids.job, PATH)
    assert (reply.status, reply.signed, reply.body) == (200, True, "x" * 2 * LARGE_BODY_BYTES)
    assert SIGNED_AT_END_HEADER not in reply.headers


@pytest.mark.parametrize("size", [0, 1, LARGE_BODY_BYTES])
async def test_a_small_answer_is_read_as_a_whole(scene: Scene, size: int) -> None:
    scene.api.go_on.set()
    scene.api.body = BODY[:size]
    async with scene.begun() as answer:
        assert (answer.streamed, answer.body) == (None, BODY[:size])


async def test_an_error_and_an_answer_without_a_length_are_read_as_a_whole(scene: Scene) -> None:
    """An error's text decides whose it is; without a length nothing can be announced to the worker."""
    scene.api.go_on.set()
    for status, with_length in ((404, True), (200, False)):
        scene.api.status, scene.api.with_length = status, with_length
        async with scene.begun() as answer:
            # The relay passes on what the keeper has signed as a whole, too.
            assert (answer.status, await rest(answer)) == (status, BODY)
    assert scene.api.calls == 2


async def test_a_large_page_of_a_server_in_front_is_no_answer(scene: Scene) -> None:
    scene.api.go_on.set()
    scene.api.content_type = "text/html"
    async with scene.begun() as answer:
        assert (answer.status, answer.headers[ORIGIN_HEADER]) == (503, "gate")


async def test_an_answer_above_the_limit_is_refused_by_its_length(scene: Scene) -> None:
    """Its body is not waited for."""
    scene.api.announced = DEFAULT_LIMITS.max_call_bytes + 1
    async with scene.begun() as answer:
        assert answer.status == 413
        assert b"max_call_bytes" in answer.body


async def test_slow_readers_leave_connections_to_others(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """One answer too many is read as a whole, so that it holds no connection to the api-server."""
    monkeypatch.setattr(upstream, "MOST_PASSED_ON", 1)
    scene.api.body = b'"' + BODY.hex().encode() + b'"'
    asking = scene.centre.relay.but(headers={SIGNED_AT_END_HEADER: SIGNED_AT_END})
    async with scene.begun() as first:
        scene.api.go_on.set()
        assert (await asking.call("GET", scene.ids.job, PATH)).signed, "as a whole"
        assert await rest(first) == scene.api.body
    with pytest.raises(orjson.JSONDecodeError):  # this relay takes the signature behind the body for a part of it
        await asking.call("GET", scene.ids.job, PATH)


async def test_a_large_answer_of_a_write_is_passed_on_and_not_remembered(scene: Scene) -> None:
    """Its repeat is sent again, as for each write whose answer is too large for the record."""
    scene.api.go_on.set()
    path, body = f"task-instances/{scene.ids.ti_id}/run", orjson.dumps(run_body())
    for calls in (1, 2):
        async with scene.begun("PATCH", path, body) as answer:
            assert await rest(answer) == BODY
        assert scene.api.calls == calls
    assert (await scene.centre.record(scene.ids.job)).last_write is None
    scene.api.body = b'{"small": true}'
    for _ in range(2):
        async with scene.begun("PATCH", path, body) as answer:
            assert answer.body == scene.api.body
    assert scene.api.calls == 3, "the record keeps a small answer"
