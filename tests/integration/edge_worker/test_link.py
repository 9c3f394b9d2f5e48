"""The way to the relay breaks, in every way it can; jobs and their outcomes do not notice."""

import logging

import pytest
from aiohttp import web

from edge_schemas.records import JobState, Verdict
from edge_worker.settings import Settings
from support.fake_relay import FakeRelay, SeenCall, execution_answer, html_page
from support.fake_runtime import script_job
from support.worker import running_agent

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
    events = [record.getMessage() for record in caplog.records if record.name == "edge_worker.link"]
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
