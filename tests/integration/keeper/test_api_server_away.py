"""An api-server that is away or fails: nothing of it reaches a task, which would take it for an answer."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from aiohttp import web

from edge_bridge.keeper.dispatch import DatabaseUnavailable, Dispatches
from edge_schemas.life.events import GiveUp, ReportUserCode
from edge_schemas.life.model import JobState
from support.airflow.keeper import WORKER, Centre, Handler, run_body
from support.airflow.real_airflow import DAG_ID, RUN_ID, add_run, add_task, change_task, retry_task

pytestmark = pytest.mark.timeout(180)  # the first one starts Airflow


async def failing(_: web.Request) -> web.Response:
    return web.Response(status=502, text="<html>a load balancer's page</html>")


def page(status: int) -> Handler:
    """The answer of a server in front of the api-server."""

    async def handle(_: web.Request) -> web.Response:
        return web.Response(status=status, text="<html>not Airflow's</html>", content_type="text/html")

    return handle


async def refusing_token(_: web.Request) -> web.Response:
    return web.json_response({"detail": "Invalid auth token"}, status=403)


@pytest.mark.parametrize("handler", [None, failing, refusing_token, page(500), page(404), page(429), page(200)])
async def test_a_fault_of_the_centre_is_never_an_answer(
    fragile: tuple[Centre, list[Handler]], handler: Handler | None
) -> None:
    centre, handlers = fragile
    handlers += [handler] if handler else []
    ids = add_task()
    await centre.started(ids)
    for method, path, body in (
        ("GET", "variables/x", None),
        ("PATCH", f"task-instances/{ids.ti_id}/run", run_body()),
        ("PATCH", f"task-instances/{ids.ti_id}/state", {"state": "success"}),
    ):
        reply = await centre.relay.call(method, ids.job, path, body)
        assert (reply.status, reply.code, reply.signed, reply.from_airflow) == (503, "gate_unavailable", True, False)
        assert reply.body["retryable"] is True
    # Its final state may be on its way: what the database says of it in between stops nothing.
    record = await centre.record(ids.job)
    assert (record.finishing, record.accepted_state) == (True, None)
    change_task(ids.ti_id, state="success")
    marker = add_task()
    await centre.started(marker)
    change_task(marker.ti_id, state="failed")
    await centre.reaches(marker.job, JobState.STOPPING)
    assert (await centre.record(ids.job)).state is JobState.RUNNING


async def test_a_short_absence_is_not_noticed(fragile: tuple[Centre, list[Handler]]) -> None:
    centre, handlers = fragile
    calls: list[str] = []

    async def at_the_second_try(request: web.Request) -> web.Response:
        calls.append(request.headers["Authorization"])
        return web.Response(status=500) if len(calls) == 1 else web.json_response({"key": "x", "value": "v"})

    handlers.append(at_the_second_try)
    ids = add_task()
    await centre.started(ids)
    reply = await centre.relay.call("GET", ids.job, "variables/x")
    assert (reply.status, reply.body["value"]) == (200, "v")
    assert len(calls) == 2
    assert calls[0] != calls[1], "each try has a token of its own"


def counted(response: Callable[[], web.Response], calls: list[str]) -> Handler:
    async def handle(request: web.Request) -> web.Response:
        calls.append(f"{request.method} {request.path}")
        return response()

    return handle


def airflows_error() -> web.Response:
    return web.json_response({"detail": {"reason": "Database error"}}, status=500)


def starlettes_error() -> web.Response:
    return web.Response(text="Internal Server Error", status=500)


@pytest.mark.parametrize("error", [airflows_error, starlettes_error])
async def test_a_failure_of_the_api_server_itself_is_its_answer(
    fragile: tuple[Centre, list[Handler]], error: Callable[[], web.Response]
) -> None:
    """It goes back at once, and a repeat reaches the api-server: the worker decides how often it is tried."""
    centre, handlers = fragile
    calls: list[str] = []
    handlers.append(counted(error, calls))
    ids = add_task()
    await centre.started(ids)
    for method, path, body in (
        ("GET", "variables/x", None),
        ("PATCH", f"task-instances/{ids.ti_id}/run", run_body()),
        ("PUT", f"task-instances/{ids.ti_id}/rtif", {}),
        ("POST", f"xcoms/{DAG_ID}/{RUN_ID}/{ids.task_id}/k", "1"),
        ("POST", f"dag-runs/{DAG_ID}/another", {}),
        ("PATCH", f"task-instances/{ids.ti_id}/state", {"state": "deferred"}),
    ):
        calls.clear()
        for _ in range(2):
            reply = await centre.relay.call(method, ids.job, path, body, request_id="one-request-id")
            assert (reply.status, reply.signed, reply.from_airflow) == (500, True, True)
        assert calls == [f"{method} /execution/{path}"] * 2
    assert (await centre.record(ids.job)).last_write is None


async def test_without_its_database_the_api_server_is_away(
    fragile: tuple[Centre, list[Handler]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It answers each call with a failure then, whatever the call contains."""
    centre, handlers = fragile
    handlers.append(counted(airflows_error, []))
    ids = add_task()
    await centre.started(ids)

    async def away(_: object) -> None:
        raise DatabaseUnavailable("OperationalError")

    monkeypatch.setattr(Dispatches, "ping", away)
    reply = await centre.relay.call("GET", ids.job, "variables/x")
    assert (reply.status, reply.code, reply.from_airflow) == (503, "gate_unavailable", False)


@pytest.mark.parametrize(
    ("status", "code"), [(413, "payload_too_large"), (414, "payload_too_large"), (403, "forbidden"), (400, "forbidden")]
)
async def test_a_refusal_of_a_server_in_front_is_final(
    fragile: tuple[Centre, list[Handler]], status: int, code: str
) -> None:
    centre, handlers = fragile
    calls: list[str] = []
    handlers.append(counted(lambda: web.Response(status=status, text="<html>", content_type="text/html"), calls))
    ids = add_task()
    await centre.started(ids)
    reply = await centre.relay.call("POST", ids.job, f"xcoms/{DAG_ID}/{RUN_ID}/{ids.task_id}/k", "1")
    assert (reply.code, reply.signed, reply.from_airflow, len(calls)) == (code, True, False, 1)
    assert reply.body["retryable"] is False
    assert "in front of Airflow's api-server" in reply.body["detail"]
    assert reply.headers["Edge-Origin"] == "gate"


async def test_path_query_and_allowed_headers_arrive_as_they_were(fragile: tuple[Centre, list[Handler]]) -> None:
    """A key is one path parameter to Airflow: the api-server decodes the path once, so `%2F` and `/` are one."""
    centre, handlers = fragile
    seen: list[tuple[str, dict[str, str]]] = []

    async def remember(request: web.Request) -> web.Response:
        seen.append((request.raw_path, {name.lower(): value for name, value in request.headers.items()}))
        return web.json_response({}, headers={"Refreshed-API-Token": "secret", "Set-Cookie": "a=b"})

    handlers.append(remember)
    ids = add_task()
    await centre.started(ids)
    relay = centre.relay.but(
        headers={"Airflow-API-Version": "2026-06-30", "Authorization": "Bearer forged", "Cookie": "a=b", "X-Other": "1"}
    )
    path = "variables/a%2Fb%20c%C3%BC+d?prefix=%2F&x=%20+"
    reply = await relay.call("GET", ids.job, path)
    raw, headers = seen[0]
    assert raw == "/execution/variables/a/b%20c%C3%BC+d?prefix=%2F&x=%20+"
    assert headers["airflow-api-version"] == "2026-06-30"
    assert headers["authorization"].startswith("Bearer ey")
    assert not {"cookie", "x-other", "edge-signature", "edge-worker"} & headers.keys()
    assert not {"Refreshed-API-Token", "Set-Cookie"} & reply.headers.keys()


def losing_the_answer(change: Callable[[], object], *, times: int, then: int) -> Handler:
    """Airflow takes a state, but its answer and those to the next tries are lost; from then on it refuses."""
    tries: list[None] = []

    async def handle(_: web.Request) -> web.Response:
        tries.append(None)
        if len(tries) == 1:
            change()
        if len(tries) <= times:
            return web.Response(status=502)
        return web.json_response({"detail": {"reason": "not_running", "message": "refused"}}, status=then)

    return handle


@pytest.mark.parametrize("lost", [1, 3], ids=["within one call", "all tries of one call"])
async def test_a_retry_whose_answer_was_lost_is_taken(fragile: tuple[Centre, list[Handler]], lost: int) -> None:
    """The task instance has a new id by then: Airflow does not know the old one any more."""
    centre, handlers = fragile
    ids = add_task(state="running")
    await centre.started(ids)
    handlers.append(losing_the_answer(lambda: retry_task(ids), times=lost, then=404))
    path, body = f"task-instances/{ids.ti_id}/state", {"state": "up_for_retry"}
    reply = await centre.relay.call("PATCH", ids.job, path, body, request_id="one-request-id")
    if lost == 3:
        assert reply.status == 503
        reply = await centre.relay.call("PATCH", ids.job, path, body, request_id="one-request-id")
    assert (reply.status, reply.from_airflow) == (204, True)
    record = await centre.record(ids.job)
    assert (record.accepted_state, record.state) == ("up_for_retry", JobState.RUNNING)


async def test_a_deferral_whose_trigger_was_faster_than_the_repeat_is_taken(
    fragile: tuple[Centre, list[Handler]],
) -> None:
    centre, handlers = fragile
    ids = add_task(state="running")
    await centre.started(ids)
    handlers.append(losing_the_answer(lambda: change_task(ids.ti_id, state="scheduled"), times=1, then=409))
    reply = await centre.relay.call("PATCH", ids.job, f"task-instances/{ids.ti_id}/state", {"state": "deferred"})
    assert reply.status == 204
    assert (await centre.record(ids.job)).accepted_state == "deferred"


async def test_a_clear_that_came_before_the_state_is_still_a_refusal(fragile: tuple[Centre, list[Handler]]) -> None:
    """Taken for accepted, the clean run that the user asked for would be counted as a retry."""
    centre, handlers = fragile
    ids = add_task(state="running")
    await centre.started(ids)

    def clear() -> None:
        change_task(retry_task(ids), state="restarting")

    handlers.append(losing_the_answer(clear, times=1, then=404))
    reply = await centre.relay.call("PATCH", ids.job, f"task-instances/{ids.ti_id}/state", {"state": "up_for_retry"})
    assert (reply.status, reply.from_airflow) == (404, True)
    assert (await centre.record(ids.job)).accepted_state is None


@pytest.mark.parametrize(("is_older", "status"), [(False, 204), (True, 409)], ids=["new", "older"])
async def test_a_run_whose_trigger_was_not_answered_is_not_refused_to_the_repeat(
    fragile: tuple[Centre, list[Handler]], *, is_older: bool, status: int
) -> None:
    """The task would fail, or clear a run that has just begun. One that was there before is still a refusal."""
    centre, handlers = fragile
    ids = add_task(state="running")
    await centre.started(ids)
    run = f"run-{ids.task_id}"
    if is_older:
        add_run(run)
    handlers.append(losing_the_answer(lambda: None if is_older else add_run(run), times=3, then=409))
    path = f"dag-runs/{DAG_ID}/{run}"
    first, again = [await centre.relay.call("POST", ids.job, path, {}, request_id="one-request-id") for _ in range(2)]
    other = await centre.relay.call("POST", ids.job, path, {}, request_id="another-request-id")
    # The new run is found before a second try is sent.
    assert [reply.status for reply in (first, again, other)] == [503 if is_older else status, status, 409]


async def test_a_write_that_is_under_way_when_its_job_is_given_up_is_not_tried_again(
    fragile: tuple[Centre, list[Handler]],
) -> None:
    """XComs are not fenced in Airflow: a late one would stand in place of the next try's.

    One write is in the middle of its tries when the job is given up, another waits for it. None of them arrives.
    """
    centre, handlers = fragile
    ids = add_task(state="running")
    held = await centre.started(ids)
    arrived: list[str] = []
    under_way, given_up = asyncio.Event(), asyncio.Event()

    async def api(request: web.Request) -> web.Response:
        if not request.path.endswith("/heartbeat"):  # the keeper's own
            arrived.append(f"{request.method} {request.path}")
            under_way.set()
            await given_up.wait()
        return web.Response(status=502)

    handlers.append(api)
    xcom = f"xcoms/{DAG_ID}/{RUN_ID}/{ids.task_id}"
    first = asyncio.create_task(centre.relay.call("POST", ids.job, f"{xcom}/one", "late"))
    await under_way.wait()
    second = asyncio.create_task(centre.relay.call("POST", ids.job, f"{xcom}/two", "late"))
    await centre.records.change(ids.job, ReportUserCode(WORKER, "host-1", 4711, datetime.now(UTC)))
    await centre.records.change(ids.job, GiveUp("no contact", datetime.now(UTC), holder=held.holder))
    given_up.set()
    replies = await asyncio.gather(first, second)
    assert [(reply.status, reply.code) for reply in replies] == [(410, "job_ended")] * 2
    assert arrived == [f"POST /execution/{xcom}/one"]
