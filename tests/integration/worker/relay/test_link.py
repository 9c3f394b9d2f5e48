"""The way to the relay breaks, in every way it can; jobs and their outcomes do not notice."""

import asyncio
import logging
import ssl

import pytest
from aiohttp import web

from edge_schemas.life.model import JobState, Verdict
from edge_schemas.wire import routes
from edge_worker.relay import client as relay_client
from edge_worker.relay.client import ExecutionCall, RelayClient
from edge_worker.relay.link import Link
from edge_worker.settings import Settings
from support.network.http_link import Fault, HttpLink, Point
from support.relay.fake_relay import FakeRelay, SeenCall, execution_answer, html_page
from support.worker.agent import NAME, make_identity, running_agent
from support.worker.fake_runtime import script_job

_LINES = "".join(f"line {n}\n" for n in range(40))
_PRINTS = """
for n in range(40):
    print('line', n)
    time.sleep(0.02)
status, body = call('GET', 'variables/go')
assert (status, json.loads(body)) == (200, {'value': 'real'}), (status, body)
assert succeed() == 204
"""


@pytest.mark.parametrize("how", ["refused", "cut", "html"])
async def test_a_task_outlives_a_lost_link(relay: FakeRelay, settings: Settings, how: str) -> None:
    job = script_job(_PRINTS)

    async def answer(call: SeenCall) -> web.Response:
        return execution_answer(200, {"value": "real"}) if call.method == "GET" else execution_answer(204)

    relay.execution = answer
    async with running_agent(relay, settings) as agent:
        await relay.publish(job)
        await relay.until(lambda: relay.state(job.id) is JobState.RUNNING)
        if how == "refused":
            await relay.stop()
            await agent.until_log(job.id, b"line 39")
            await relay.start()
        else:
            asked = 0

            def fault(request: web.Request) -> web.Response | None:
                nonlocal asked
                asked += 1
                if how == "html":
                    return html_page()
                request.protocol.force_close()
                return web.Response()

            relay.fault = fault
            relay.cut()
            await agent.until_log(job.id, b"line 39")
            await relay.until(lambda: asked >= 5)
            relay.fault = lambda _: None
        await relay.until(lambda: relay.state(job.id) is JobState.ENDED)
    outcome = relay.records[job.id].outcome
    assert outcome is not None
    assert outcome.exit_code == 0
    assert relay.logs[job.id].decode() == _LINES


@pytest.mark.parametrize(
    ("step", "at"), [("start", Point.REQUEST), ("finish", Point.ANSWER), ("variables/v", Point.REQUEST)]
)
async def test_a_connection_that_hangs_alone_is_not_waited_for(
    relay: FakeRelay, settings: Settings, monkeypatch: pytest.MonkeyPatch, step: str, at: Point
) -> None:
    """Each would cost 30 s or more; the link itself is good, so no poll notices."""
    monkeypatch.setattr(relay_client, "AGAIN_S", 0.3)
    monkeypatch.setattr(relay_client, "EXECUTION_AGAIN_S", 0.3)
    job = script_job("print(*call('GET', 'variables/v')); assert succeed() == 204")
    async with HttpLink.to(relay.url) as link:
        strike = link.arm(Fault.BLACK_HOLE, "GET" if step == "variables/v" else "POST", f"{step}$", at=at)
        async with running_agent(relay, settings.model_copy(update={"relay_url": link.url})):
            await relay.publish(job)
            async with asyncio.timeout(10):
                await relay.until(lambda: relay.state(job.id) is JobState.ENDED)
    assert strike.happened.is_set()
    assert [finish.exit_code for finish in relay.finishes[job.id]][-1] == 0
    assert relay.logs[job.id].decode() == '200 b\'{"value": "v"}\'\n'
    assert len({call.request_id for call in relay.calls if call.method == "GET"}) == 1


async def test_an_answer_that_has_begun_is_waited_for(relay: FakeRelay, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large one on a thin line is not fetched twice at once."""
    monkeypatch.setattr(relay_client, "EXECUTION_AGAIN_S", 0.2)

    async def answer(call: SeenCall) -> web.StreamResponse:
        response = web.StreamResponse(headers={routes.ORIGIN_HEADER: routes.EXECUTION_ORIGIN})
        await response.prepare(requests[0])
        await response.write(b"begun, ")
        await asyncio.sleep(0.8)
        await response.write(b"done")
        return response

    requests: list[web.Request] = []
    relay.fault = requests.append
    # This answer is streamed, which the attribute's type does not name.
    relay.execution = answer  # type: ignore[assignment]
    job = script_job("")
    relay.hand_out(job, NAME)
    link = Link()
    link.answered()
    tls = ssl.create_default_context()
    async with RelayClient(relay.url, make_identity(relay).secret, tls=tls, proxy=None, link=link) as client:
        got = await client.execution(job.id, ExecutionCall("GET", "variables/v", "", {}, b"", "r-0001"))
    assert (got.body, len(requests)) == (b"begun, done", 1)


async def test_a_lost_link_is_logged_once_when_it_goes_and_once_when_it_is_back(
    relay: FakeRelay, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with running_agent(relay, settings):
        await relay.until(lambda: relay.holds_a_poll)
        relay.fault = lambda _: html_page()
        before = relay.requests["/v1/poll"]
        relay.cut()
        await relay.until(lambda: relay.requests["/v1/poll"] >= before + 3)
        relay.fault = lambda _: None
        await relay.until(lambda: relay.holds_a_poll)
    events = [record.getMessage() for record in caplog.records if record.name == "edge_worker.relay.link"]
    assert events == ["relay_reachable", "relay_unreachable", "relay_reachable"]
    lost = next(record for record in caplog.records if record.getMessage() == "relay_unreachable")
    assert "Bad gateway" in lost.__dict__["fields"]["reason"]


async def test_an_answer_that_is_not_the_relays_is_no_answer(relay: FakeRelay, settings: Settings) -> None:
    """A captive portal says 200 or 204 to everything: an outcome must not be taken for delivered."""
    job = script_job("")
    portal = 0

    def fault(request: web.Request) -> web.Response | None:
        nonlocal portal
        if not request.path.endswith("/finish") or portal == 2:
            return None
        portal += 1
        return web.Response(status=204) if portal == 1 else web.Response(text="<html>Accept the terms</html>")

    relay.fault = fault
    async with running_agent(relay, settings):
        await relay.publish(job)
        await relay.until(lambda: relay.state(job.id) is JobState.ENDED)
    assert portal == 2
    outcome = relay.records[job.id].outcome
    assert outcome is not None
    assert outcome.verdict is Verdict.FAILED


async def test_a_finished_slot_is_told_at_once_by_a_newer_poll(relay: FakeRelay, settings: Settings) -> None:
    settings = settings.model_copy(update={"slots": 1})
    first, second = script_job(""), script_job("")
    async with running_agent(relay, settings):
        await relay.publish(first)
        await relay.publish(second)
        await relay.until(lambda: relay.state(second.id) is JobState.ENDED)
    seqs = [poll.seq for poll in relay.polls]
    assert seqs == sorted(set(seqs))


async def test_a_revoked_worker_drains_and_leaves_with_its_own_status(relay: FakeRelay, settings: Settings) -> None:
    async with running_agent(relay, settings) as agent:
        await relay.until(lambda: relay.holds_a_poll)
        relay.revoked.add("worker-1")
        relay.cut()
        await agent.until_ended()
    assert agent.code == 3
