"""The local gateway on its real socket, with a fake relay behind it."""

import asyncio
import json
from functools import partial

import pytest
from aiohttp import web

from edge_schemas.gate.execution_paths import decode_path, split_path
from edge_schemas.wire.errors import ErrorCode
from edge_worker.gateway import deferred_writes
from edge_worker.jobs.events import ContactLost, ProcessGone, StopWanted, StopWish
from support.relay.fake_relay import FakeRelay, SeenCall, execution_answer, html_page, problem_answer
from support.relay.jobs import make_auxiliary_job, make_job
from support.worker.gateway import GatewayScene


@pytest.mark.parametrize(
    "target",
    [
        "variables/a%2Fb%20c%C3%A9?x=%2B+&y=a%26b",
        "xcoms/d/manual__2026-01-01T00:00:00+00:00/t/key?map_index=-1",
        "connections/it%27s~(a)*key",
        "variables/sch%C3%B6n/more%2fpath",
        "variables//data/a.csv",
        "variables/dir/",
        "variables/../connections/x",
        "variables/%2e%2e/%5c%00%C2%85",
        "variables/100%",
        "variables/" + "%E9%8D%B5" * 500,
    ],
)
async def test_what_a_task_sends_arrives_as_it_is(relay: FakeRelay, gateway: GatewayScene, target: str) -> None:
    assert (await gateway.call("GET", target)).status == 200
    path, _, query = target.partition("?")
    assert [(split_path(call.raw_path), call.query) for call in relay.calls] == [(decode_path(path), query)]
    assert "%" not in relay.calls[0].raw_path, "no proxy on the way has anything to decode"


async def test_a_path_beside_a_job_s_does_not_exist(gateway: GatewayScene) -> None:
    """As at the api-server: Airflow's client shortens a key such as `../../../x` to it before it sends it."""
    reader, writer = await asyncio.open_unix_connection(gateway.socket)
    writer.write(b"GET /jobs/x HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n")
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert answer.endswith(b'{"detail": "Not Found"}')


async def test_what_is_too_long_is_refused_with_the_limit(relay: FakeRelay, gateway: GatewayScene) -> None:
    fits = await gateway.call("GET", "task-instances/count?dag_id=" + "a" * (60 * 1024))
    assert fits.status == 200
    for target in ("task-instances/count?dag_id=" + "a" * (64 * 1024), "variables/" + "%2F" * (64 * 1024)):
        answer = await gateway.call("GET", target)
        assert (answer.status, answer.headers["content-type"]) == (403, "application/json")
        assert "max_path_bytes = 65536" in json.loads(answer.body)["detail"]["message"]
    assert len(relay.calls) == 1


async def test_only_allowed_headers_go_on(relay: FakeRelay, gateway: GatewayScene) -> None:
    await gateway.call(
        "GET", "variables/a", Authorization="Bearer none", Airflow_API_Version="2026-06-30", Cookie="x=y",
        Correlation_Id="c1", traceparent="00-1",
    )  # fmt: skip
    seen = {name.lower(): value for name, value in relay.calls[0].headers.items()}
    assert seen["authorization"].startswith("Bearer erw_")
    assert (seen["airflow-api-version"], seen["correlation-id"], seen["traceparent"]) == ("2026-06-30", "c1", "00-1")
    assert "cookie" not in seen


async def test_an_answer_goes_back_as_it_came_but_without_a_token(relay: FakeRelay, gateway: GatewayScene) -> None:
    async def answer(call: SeenCall) -> web.Response:
        extra = {"Refreshed-API-Token": "secret", "Content-Range": "map_indexes 3"}
        return execution_answer(404, {"detail": {"reason": "not_found"}}, **extra)

    relay.execution = answer
    got = await gateway.call("GET", "variables/none")
    assert (got.status, got.headers["content-type"]) == (404, "application/json")
    assert json.loads(got.body) == {"detail": {"reason": "not_found"}}
    assert got.headers["content-range"] == "map_indexes 3"
    assert "refreshed-api-token" not in got.headers


async def test_a_call_is_held_over_an_outage_and_keeps_its_request_id(relay: FakeRelay, gateway: GatewayScene) -> None:
    faults = [html_page(), problem_answer(ErrorCode.GATE_UNAVAILABLE), problem_answer(ErrorCode.BROKER_UNAVAILABLE)]
    seen: list[str] = []

    def fault(request: web.Request) -> web.Response | None:
        seen.append(request.headers["X-Request-Id"])
        return faults.pop() if faults else None

    relay.fault = fault
    got = await gateway.call("POST", "xcoms/d/r/t/return_value", b"1", X_Request_Id="from-the-task-1")
    assert got.status == 200
    assert seen == ["from-the-task-1"] * 4


async def test_a_held_call_is_repeated_at_once_when_the_link_is_back(relay: FakeRelay, gateway: GatewayScene) -> None:
    gateway.link.lost("a test")
    await relay.stop()
    call = asyncio.ensure_future(gateway.call("GET", "variables/a"))
    while not call.done():
        await asyncio.sleep(0.05)
        if relay._runner is None:
            await relay.start()
        gateway.link.answered()
    assert call.result().status == 200


@pytest.mark.parametrize("status", [500, 502, 503, 504, 429])
async def test_a_read_never_ends_in_what_becomes_a_default_value(
    relay: FakeRelay, gateway: GatewayScene, status: int
) -> None:
    answers = [execution_answer(status, {"detail": "broken"}), execution_answer(200, {"value": "real"})]

    async def answer(_: SeenCall) -> web.Response:
        return answers.pop(0)

    relay.execution = answer
    got = await gateway.call("GET", "variables/a")
    assert (got.status, json.loads(got.body)) == (200, {"value": "real"})


@pytest.mark.parametrize("code", [ErrorCode.NOT_HOLDER, ErrorCode.JOB_ENDED, ErrorCode.WRONG_STATE])
async def test_a_lost_job_is_stopped_and_its_calls_are_refused(
    relay: FakeRelay, gateway: GatewayScene, code: ErrorCode
) -> None:
    relay.fault = lambda _: problem_answer(code)
    read, write = await gateway.call("GET", "variables/a"), await gateway.call("POST", "xcoms/d/r/t/k", b"1")
    assert (read.status, read.headers["content-type"]) == (403, "application/json")
    assert (write.status, write.headers["content-type"]) == (409, "application/json")
    assert json.loads(write.body)["detail"]["reason"] == "not_running"
    assert gateway.driver.now.stop is not None
    assert gateway.driver.now.stop.drop is (code is not ErrorCode.WRONG_STATE)
    assert (await gateway.beat()).status == 409


@pytest.mark.parametrize("code", [ErrorCode.FORBIDDEN, ErrorCode.NOT_FOUND, ErrorCode.PAYLOAD_TOO_LARGE])
async def test_a_refusal_by_policy_is_a_403_and_the_job_continues(
    relay: FakeRelay, gateway: GatewayScene, code: ErrorCode
) -> None:
    relay.fault = lambda _: problem_answer(code)
    for method, body in (("GET", b""), ("POST", b"1")):
        got = await gateway.call(method, "variables/a", body)
        assert (got.status, got.headers["content-type"]) == (403, "application/json")
    assert gateway.driver.now.stop is None


@pytest.mark.parametrize(
    ("code", "stops"), [(ErrorCode.FORBIDDEN, False), (ErrorCode.JOB_ENDED, True), (ErrorCode.NOT_HOLDER, True)]
)
async def test_a_refused_head_has_no_body_and_is_understood(
    relay: FakeRelay, gateway: GatewayScene, code: ErrorCode, *, stops: bool
) -> None:
    relay.fault = lambda _: problem_answer(code)
    assert (await gateway.call("HEAD", "xcoms/d/r/t/k")).status == 403
    assert (gateway.driver.now.stop is not None) is stops


async def test_heartbeats_are_answered_here(relay: FakeRelay, gateway: GatewayScene) -> None:
    await relay.stop()
    assert (await gateway.beat()).status == 204
    gateway.driver.post(StopWanted(StopWish("marked as failed")))
    stopped = await gateway.beat()
    assert (stopped.status, stopped.headers["content-type"]) == (409, "application/json")
    assert json.loads(stopped.body) == {
        "detail": {"reason": "not_running", "message": "marked as failed", "current_state": "failed"}
    }


async def test_a_heartbeat_for_another_task_is_not_ours_to_answer(relay: FakeRelay, gateway: GatewayScene) -> None:
    await gateway.call("PUT", "task-instances/00000000-0000-0000-0000-000000000000/heartbeat", b"{}")
    assert len(relay.calls) == 1


async def test_no_heartbeat_says_stop_once_the_final_state_is_under_way(
    relay: FakeRelay, gateway: GatewayScene
) -> None:
    arrived, go = asyncio.Event(), asyncio.Event()

    async def answer(_: SeenCall) -> web.Response:
        arrived.set()
        await go.wait()
        return execution_answer(204)

    relay.execution = answer
    final = asyncio.ensure_future(gateway.set_state("success"))
    await arrived.wait()
    gateway.driver.post(StopWanted(StopWish("cleared")))
    assert (await gateway.beat()).status == 204
    go.set()
    assert (await final).status == 204
    assert (await gateway.beat()).status == 204
    assert (gateway.driver.now.final_state, gateway.driver.dir.final_state()) == ("success", "success")


async def test_a_refused_final_state_leaves_the_job_to_be_stopped(relay: FakeRelay, gateway: GatewayScene) -> None:
    async def answer(_: SeenCall) -> web.Response:
        return execution_answer(409, {"detail": {"reason": "invalid_state"}})

    relay.execution = answer
    gateway.driver.post(StopWanted(StopWish("cleared")))
    assert (await gateway.set_state("success")).status == 409
    assert (await gateway.beat()).status == 409
    assert gateway.driver.now.final_state is None


async def test_calls_of_an_unknown_job_are_refused(gateway: GatewayScene) -> None:
    gateway.driver.job = make_job()
    assert (await gateway.call("GET", "variables/a")).status == 403
    assert (await gateway.call("POST", "xcoms/d/r/t/k", b"1")).status == 409


async def test_a_held_read_ends_when_the_job_is_to_stop(relay: FakeRelay, gateway: GatewayScene) -> None:
    relay.fault = lambda _: html_page()
    call = asyncio.ensure_future(gateway.call("GET", "variables/a"))
    await relay.until(lambda: sum(relay.requests.values()) >= 2)
    gateway.driver.post(StopWanted(StopWish("marked as failed")))
    assert (await call).status == 403


class TestRenderedFields:
    """They do not keep a task from beginning while the link is down."""

    async def test_over_a_working_link_the_answer_is_airflows(self, relay: FakeRelay, gateway: GatewayScene) -> None:
        async def answer(_: SeenCall) -> web.Response:
            return execution_answer(422, {"detail": "too odd"})

        relay.execution = answer
        assert (await gateway.call("PUT", f"{gateway.instance}/rtif", b"{}")).status == 422

    async def test_without_one_they_are_answered_and_delivered_before_the_next_write(
        self, relay: FakeRelay, gateway: GatewayScene, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(deferred_writes, "AT_ONCE_S", 0.1)
        relay.fault = lambda _: html_page()
        answer = await gateway.call("PUT", f"{gateway.instance}/rtif", b'{"f":1}', X_Request_Id="fields-0001")
        assert (answer.status, json.loads(answer.body)) == (
            201,
            {"message": "Rendered task instance fields successfully set"},
        )
        assert answer.headers["content-type"] == "application/json"
        writing = asyncio.create_task(gateway.set_state("success"))
        reading = asyncio.create_task(gateway.call("GET", "variables/a"))
        await asyncio.sleep(0.1)
        relay.fault = lambda _: None
        assert [(await writing).status, (await reading).status] == [204, 200]
        writes = [(call.method, call.request_id) for call in relay.calls if call.method != "GET"]
        assert [writes[0], writes[1][0], len(writes)] == [("PUT", "fields-0001"), "PATCH", 2]

    async def test_they_are_dropped_when_the_job_ends(
        self, relay: FakeRelay, gateway: GatewayScene, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(deferred_writes, "AT_ONCE_S", 0.05)
        relay.fault = lambda _: html_page()
        await gateway.call("PUT", f"{gateway.instance}/rtif", b"{}")
        gateway.driver.post(ProcessGone())
        assert (await gateway.call("POST", "xcoms/d/r/t/k", b"1")).status == 409
        assert not relay.calls


async def test_what_a_frozen_job_waits_for_is_held_and_a_repeat_joins_it(
    relay: FakeRelay, gateway: GatewayScene
) -> None:
    """Its supervisor loses patience every few seconds and asks again; each call is delivered once."""
    relay.fault = lambda _: html_page()
    gateway.driver.post(ContactLost("no contact"))
    xcom = partial(gateway.call, "POST", "xcoms/d/r/t/k", b"1", X_Request_Id="call-0001")
    older = [asyncio.create_task(xcom()), asyncio.create_task(gateway.set_state("success"))]
    await relay.until(lambda: sum(relay.requests.values()) >= 2)
    newer = asyncio.create_task(xcom())
    assert (await older[0]).status == 503
    assert (await gateway.beat()).status == 204
    relay.fault = lambda _: None
    assert [(await newer).status, (await older[1]).status] == [200, 204]
    assert sorted(call.method for call in relay.calls) == ["PATCH", "POST"]
    assert gateway.driver.now.final_state == "success"


async def test_an_auxiliary_job_has_no_instance_of_its_own(relay: FakeRelay, gateway: GatewayScene) -> None:
    """What would be a heartbeat or a final state of a task is a call like any other; the gate judges it."""
    instance = gateway.instance
    task_record = relay.records[gateway.driver.id]
    gateway.driver.job = make_auxiliary_job()
    gateway.table.add(gateway.driver)
    relay.records[gateway.driver.id] = task_record
    assert (await gateway.call("PATCH", f"{instance}/state", b'{"state":"success"}')).status == 204
    assert (await gateway.call("PUT", f"{instance}/heartbeat", b"{}")).status == 204
    assert (gateway.driver.now.final_state, len(relay.calls)) == (None, 2)
