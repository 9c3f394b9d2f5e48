"""The table of fates, row by row, through the real gateway: what the task gets, how often the call is sent."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from aiohttp import web

from edge_schemas.wire import routes
from edge_schemas.wire.errors import ErrorCode, Problem
from edge_worker.gateway import held_calls
from edge_worker.gateway.fates import FAILURE_TRIES, INTERNAL_TRIES, RULES, Fate, Route, Rule, rule_for
from edge_worker.jobs.events import StopWanted, StopWish
from edge_worker.relay.call_result import NoAnswer, Refused
from edge_worker.relay.client import ExecutionAnswer
from support.airflow.api.execution_api import eventually
from support.relay.fake_relay import FakeRelay, execution_answer, html_page, problem_answer
from support.worker.gateway import GatewayScene

ERROR = {"detail": {"reason": "Database error", "message": "refused"}}
CALLS = {
    Route.FINAL_STATE: ("PATCH", "{ti}/state", b'{"state":"deferred"}'),
    Route.RENDERED_FIELDS: ("PUT", "{ti}/rtif", b"{}"),
    Route.WRITE: ("POST", "xcoms/d/r/t/k", b"1"),
    Route.SECRET_READ: ("GET", "variables/a", b""),
    Route.READ: ("GET", "xcoms/d/r/t/k", b""),
}


@dataclass
class Case:
    """An answer that does not change, and what becomes of a call.

    Attributes:
        answer: Given to each try; None closes the connection.
        status: What a task gets; 0 while the call is held.
        sent: How often the call is sent until then.
    """

    answer: Callable[[], web.Response | None]
    status: int
    sent: int
    route: Route
    stops: bool = False


def api(status: int) -> Callable[[], web.Response]:
    return lambda: execution_answer(status, ERROR)


def problem(code: ErrorCode, origin: str = "") -> Callable[[], web.Response]:
    def answer() -> web.Response:
        response = problem_answer(code)
        if origin:
            response.headers[routes.ORIGIN_HEADER] = origin
        return response

    return answer


def page(status: int) -> Callable[[], web.Response]:
    return lambda: html_page(status)


_OURS = [
    case
    for origin in ("", routes.GATE_ORIGIN)
    for case in (
        Case(problem(ErrorCode.JOB_ENDED, origin), 403, 1, Route.READ, stops=True),
        Case(problem(ErrorCode.NOT_HOLDER, origin), 409, 1, Route.WRITE, stops=True),
        Case(problem(ErrorCode.WRONG_STATE, origin), 409, 1, Route.FINAL_STATE, stops=True),
        Case(problem(ErrorCode.CREDENTIAL_REVOKED, origin), 409, 1, Route.WRITE, stops=True),
        Case(problem(ErrorCode.INTERNAL, origin), 403, INTERNAL_TRIES, Route.WRITE),
        Case(problem(ErrorCode.GATE_UNAVAILABLE, origin), 0, 3, Route.READ),
        Case(problem(ErrorCode.RATE_LIMITED, origin), 0, 3, Route.WRITE),
        Case(problem(ErrorCode.PAYLOAD_TOO_LARGE, origin), 403, 1, Route.WRITE),
        Case(problem(ErrorCode.INVALID_REQUEST, origin), 403, 1, Route.READ),
        Case(problem(ErrorCode.FORBIDDEN, origin), 403, 1, Route.FINAL_STATE),
    )
]
CASES = [
    *(Case(api(500), 500, FAILURE_TRIES, route) for route in Route if route is not Route.SECRET_READ),
    Case(api(500), 403, FAILURE_TRIES, Route.SECRET_READ),
    Case(api(501), 501, FAILURE_TRIES, Route.WRITE),
    *(Case(api(status), 0, 3, Route.WRITE) for status in (408, 429, 502, 503, 504)),
    Case(api(503), 0, 3, Route.SECRET_READ),
    *(Case(api(status), status, 1, route) for status in (404, 409, 413, 422) for route in Route),
    *_OURS,
    *(Case(page(status), 403, 1, Route.WRITE) for status in (413, 414, 431)),
    *(Case(page(status), 0, 3, Route.READ) for status in (200, 302, 403, 404, 500, 502, 503)),
    Case(lambda: None, 0, 3, Route.WRITE),
    Case(lambda: None, 0, 3, Route.FINAL_STATE),
]


def _case_id(case: Case) -> str:
    answer = case.answer()
    shown = "none" if answer is None else f"{answer.status}-{answer.headers.get(routes.ORIGIN_HEADER, '')}"
    return f"{shown}-{case.route.name}"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_calls, "FAILURE_PAUSE_S", 0.01)
    monkeypatch.setattr(held_calls, "RETRY_CAP_S", 0.02)


@pytest.mark.parametrize("case", CASES, ids=_case_id)
async def test_what_becomes_of_a_call(relay: FakeRelay, gateway: GatewayScene, case: Case) -> None:
    sent: list[str] = []

    def answer(request: web.Request) -> web.Response | None:
        sent.append(request.headers["X-Request-Id"])
        response = case.answer()
        if response is None:
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        return response

    relay.fault = answer
    method, target, body = CALLS[case.route]
    call = asyncio.create_task(gateway.call(method, target.format(ti=gateway.instance), body))
    if case.status == 0:
        await eventually(lambda: len(sent) >= case.sent)
        assert not call.done()
        assert gateway.gateway.held_calls == 1
        relay.fault = lambda _: None
        assert (await call).status in {200, 204}
    else:
        got = await call
        assert (got.status, len(sent)) == (case.status, case.sent)
        assert got.headers["content-type"] == "application/json"
    assert len(set(sent)) == 1
    assert gateway.gateway.held_calls == 0
    assert (gateway.driver.now.stop is not None) is case.stops
    if case.status in {403, 500, 501} or case.stops:
        (line,) = gateway.log_events()
        assert "failed for good" in line


def test_each_row_has_a_case() -> None:
    tried = {_rule_of(case) for case in CASES}
    assert tried == set(RULES)
    for case in CASES:
        rule = _rule_of(case)
        assert (rule.fate is Fate.HELD) is (case.status == 0)
        assert rule.fate is Fate.HELD or rule.tries == case.sent


def _rule_of(case: Case) -> Rule:
    response = case.answer()
    if response is None:
        return rule_for(NoAnswer("closed"), case.route)
    origin = response.headers.get(routes.ORIGIN_HEADER, "")
    if origin == routes.EXECUTION_ORIGIN:
        return rule_for(ExecutionAnswer(response.status, {}, b""), case.route)
    if response.content_type == routes.PROBLEM_TYPE:
        assert isinstance(response.body, bytes)
        problem_of = Problem.model_validate_json(response.body)
        return rule_for(Refused(problem_of, origin=origin), case.route)
    return rule_for(NoAnswer("a page", status=response.status), case.route)


async def test_a_final_state_whose_answers_are_lost_is_held_until_its_fate_is_known(
    relay: FakeRelay, gateway: GatewayScene
) -> None:
    """Each repeat is the same call, and a stop that comes in between waits for it."""
    relay.lose_answer["state"] = 2
    call = asyncio.create_task(gateway.set_state("success"))
    await eventually(lambda: len(relay.calls) >= 1)
    gateway.driver.post(StopWanted(StopWish("cleared")))
    assert (await call).status == 204
    assert len(relay.calls) == 3
    assert len({seen.request_id for seen in relay.calls}) == 1
    assert gateway.driver.now.final_state == "success"


async def test_a_final_state_that_fails_for_good_leaves_the_job_to_be_stopped(
    relay: FakeRelay, gateway: GatewayScene
) -> None:
    relay.fault = lambda _: execution_answer(500, ERROR)
    assert (await gateway.set_state("success")).status == 500
    assert gateway.driver.now.final_state is None
    gateway.driver.post(StopWanted(StopWish("cleared")))
    assert (await gateway.beat()).status == 409
