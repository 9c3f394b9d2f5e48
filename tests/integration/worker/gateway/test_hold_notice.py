"""What a task's own log shows of a call that is held."""

import asyncio
import json

import pytest
from aiohttp import web

from edge_schemas.wire.errors import ErrorCode
from edge_worker.gateway import hold_notice
from edge_worker.jobs.events import StopWanted, StopWish
from edge_worker.task_host.job_files import TASK_LOG
from edge_worker.task_host.log_file import CappedLog
from support.airflow.api.execution_api import eventually
from support.relay.fake_relay import FakeRelay, SeenCall, html_page, problem_answer
from support.worker.gateway import GatewayScene


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hold_notice, "TELL_AFTER_S", 0.1)


async def until_told(gateway: GatewayScene, count: int = 1) -> list[str]:
    await eventually(lambda: len(gateway.log_events()) >= count)
    return gateway.log_events()


async def test_a_long_wait_is_told_with_its_reason_and_its_end(relay: FakeRelay, gateway: GatewayScene) -> None:
    relay.fault = lambda _: problem_answer(ErrorCode.GATE_UNAVAILABLE, detail="no keeper answers at the moment")
    call = asyncio.create_task(gateway.call("GET", "variables/a?secret=1"))
    (line,) = await until_told(gateway)
    assert "waits for GET variables/a since 20" in line
    assert "no keeper answers at the moment" in line
    assert "secret" not in line
    relay.fault = lambda _: None
    assert (await call).status == 200
    *_, end = gateway.log_events()
    assert "the wait for GET variables/a ended after" in end
    assert "the task continues" in end


async def test_a_wait_within_one_try_is_told_too(relay: FakeRelay, gateway: GatewayScene) -> None:
    go = asyncio.Event()
    answer = relay.execution

    async def late(call: SeenCall) -> web.Response:
        await go.wait()
        return await answer(call)

    relay.execution = late
    call = asyncio.create_task(gateway.call("POST", "xcoms/d/r/t/k", b"1"))
    (line,) = await until_told(gateway)
    assert "no answer yet" in line
    go.set()
    assert (await call).status == 200


async def test_the_next_reason_is_told_once(relay: FakeRelay, gateway: GatewayScene) -> None:
    relay.fault = lambda _: html_page(502)
    call = asyncio.create_task(gateway.call("PATCH", f"{gateway.instance}/state", b'{"state":"success"}'))
    await until_told(gateway)
    relay.fault = lambda _: problem_answer(ErrorCode.BROKER_UNAVAILABLE)
    first, second = await until_told(gateway, 2)
    assert "502" in first
    assert "broker_unavailable" in second
    assert not call.done()
    # Told again at 0.4 s and 0.8 s, if there were news.
    await asyncio.sleep(1)
    assert len(gateway.log_events()) == 2
    relay.fault = lambda _: None
    assert (await call).status == 204


async def test_a_short_wait_leaves_no_line(
    relay: FakeRelay, gateway: GatewayScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hold_notice, "TELL_AFTER_S", 30)
    pages = [html_page()]
    relay.fault = lambda _: pages.pop() if pages else None
    assert (await gateway.call("GET", "variables/a")).status == 200
    assert gateway.log_events() == []


async def test_a_wait_that_the_end_of_the_job_ends_says_so(relay: FakeRelay, gateway: GatewayScene) -> None:
    relay.fault = lambda _: html_page()
    call = asyncio.create_task(gateway.call("GET", "variables/a"))
    await until_told(gateway)
    gateway.driver.post(StopWanted(StopWish("marked as failed")))
    assert (await call).status == 403
    assert "the job is to stop" in gateway.log_events()[-1]


async def test_the_log_stays_well_formed_next_to_its_own_writer(relay: FakeRelay, gateway: GatewayScene) -> None:
    log = CappedLog(gateway.driver.dir.path / TASK_LOG, 1 << 20)
    relay.fault = lambda _: html_page()
    call = asyncio.create_task(gateway.call("GET", "variables/a"))
    written = 0
    while not any("Edge worker" in event for event in gateway.log_events()):
        log.write(json.dumps({"event": "x" * 9000}).encode() + b"\n")
        written += 1
        await asyncio.sleep(0)
    relay.fault = lambda _: None
    await call
    events = gateway.log_events()
    assert sum(event == "x" * 9000 for event in events) == written
    assert sum("Edge worker" in event for event in events) == 2
    log.close()
