"""The fake gate answers a relay as a real keeper's gate does."""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any

import orjson
import pytest
import pytest_asyncio
from yarl import URL

from contract.gate_backends import (
    GateBackend,
    fake_gate_backend,
    keeper_with_airflow,
    real_gate_backend,
    xcom_path,
)
from edge_schemas.gate.auth import (
    END_SIGNATURE_BYTES,
    SIGNATURE_HEADER,
    SIGNED_AT_END,
    SIGNED_AT_END_HEADER,
    GateCall,
    check_answer,
    check_head,
    sign_call,
)
from edge_schemas.gate.centre import CentreFacts
from edge_schemas.wire import routes
from support.airflow.keeper import run_body
from support.airflow.real_airflow import RealAirflow

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(180),  # the first real one starts Airflow
]

Serve = Callable[[], AbstractAsyncContextManager[GateBackend]]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def serve(real_airflow: RealAirflow | None, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Serve]:
    """Gives a gate with a job of the test's own."""
    if real_airflow is None:
        yield fake_gate_backend
    else:
        async with keeper_with_airflow(real_airflow, tmp_path_factory.mktemp("keeper")) as running:
            yield partial(real_gate_backend, running)


@pytest_asyncio.fixture(loop_scope="module")
async def backend(serve: Serve) -> AsyncIterator[GateBackend]:
    async with serve() as backend:
        yield backend


async def test_airflows_answers_are_signed_and_as_airflow_gave_them(backend: GateBackend) -> None:
    base, variable = f"task-instances/{backend.ids.ti_id}", f"variables/{backend.ids.task_id}"
    ok = {"message": "ok"}
    calls: list[tuple[str, str, Any, int, Any]] = [
        ("PATCH", f"{base}/run", run_body(), 200, {"dag_run": {}}),
        ("PUT", f"{base}/heartbeat", {"hostname": "host-1", "pid": 4711}, 204, None),
        ("PUT", variable, {"value": "v"}, 201, ok),
        ("GET", variable, None, 200, {"key": backend.ids.task_id, "value": "v"}),
        ("GET", "variables/absent", None, 404, {"detail": {"reason": "not_found"}}),
        ("POST", xcom_path(backend.ids), {"some": "value"}, 201, ok),
    ]
    for method, path, body, status, answer in calls:
        backend.airflow_answers(status, answer)
        reply = await backend.relay.call(method, backend.ids.job, path, body)
        assert (reply.status, reply.signed, reply.from_airflow) == (status, True, True), (path, reply)
        if answer is None:
            assert reply.body is None
        else:
            assert reply.headers["Content-Type"] == "application/json", "exactly so, without a charset"
            assert answer.keys() <= reply.body.keys()


async def test_the_answer_to_head_has_no_body_and_its_signature_covers_none(backend: GateBackend) -> None:
    base = f"task-instances/{backend.ids.ti_id}"
    backend.airflow_answers(200, {})
    await backend.relay.call("PATCH", backend.ids.job, f"{base}/run", run_body())
    backend.airflow_answers(201, {"message": "ok"})
    await backend.relay.call("POST", backend.ids.job, xcom_path(backend.ids), "v")
    backend.airflow_answers_head("map_indexes 1")
    reply = await backend.relay.call("HEAD", backend.ids.job, xcom_path(backend.ids))
    assert (reply.status, reply.body, reply.signed, reply.from_airflow) == (200, None, True, True)
    assert reply.headers["Content-Range"] == "map_indexes 1"


async def test_a_large_answer_is_signed_behind_its_body_for_a_relay_that_asks(backend: GateBackend) -> None:
    relay, path, value = backend.relay, xcom_path(backend.ids), "x" * 100_000
    backend.airflow_answers(200, {})
    await relay.call("PATCH", backend.ids.job, f"task-instances/{backend.ids.ti_id}/run", run_body())
    backend.airflow_answers(201, {"message": "ok"})
    await relay.call("POST", backend.ids.job, path, value)
    backend.airflow_answers(200, {"key": "return_value", "value": value})
    target = routes.GATE_EXECUTION.format(job=backend.ids.job, path=path)
    call = GateCall("GET", target, relay.worker, "request-0001", b"")
    signature, nonce = sign_call(relay.key, call, now=time.time())
    headers = {SIGNATURE_HEADER: signature, routes.WORKER_HEADER: call.worker, SIGNED_AT_END_HEADER: SIGNED_AT_END}
    headers[routes.REQUEST_ID_HEADER] = call.request_id
    async with relay.session.get(URL(f"http://127.0.0.1:{relay.port}{target}", encoded=True), headers=headers) as reply:
        content = await reply.read()
    body, behind = content[:-END_SIGNATURE_BYTES], content[-END_SIGNATURE_BYTES:].decode()
    assert orjson.loads(body)["value"] == value
    assert reply.headers[SIGNED_AT_END_HEADER] == SIGNED_AT_END
    assert check_head(relay.key, nonce, 200, len(body), reply.headers[SIGNATURE_HEADER])
    assert check_answer(relay.key, nonce, 200, body, behind)


@pytest.mark.parametrize(
    "wrong",
    [
        {"key": b"another-secret" * 4},
        {"skew_s": -120},
        {"skew_s": 120},
        {"send_worker": "plant-2"},
        {"headers": {SIGNATURE_HEADER: "v1;1;n;m"}},
        {"headers": {SIGNATURE_HEADER: ""}},
        {"headers": {routes.REQUEST_ID_HEADER: "another-request-id"}},
    ],
)
async def test_a_wrong_signature_is_refused_without_one(backend: GateBackend, wrong: dict[str, Any]) -> None:
    reply = await backend.relay.but(**wrong).call("GET", backend.ids.job, "variables/x")
    assert (reply.status, reply.code, reply.signed, reply.from_airflow) == (401, "unauthenticated", False, False)


async def test_the_facts_of_the_centre(backend: GateBackend) -> None:
    backend.centre(CentreFacts(airflow_version="3.3.2", python_version="3.12.1"))
    relay = backend.relay
    call = GateCall("GET", routes.GATE_CENTRE, "", "request-0001", b"")
    signature, nonce = sign_call(relay.key, call, now=time.time())
    headers = {SIGNATURE_HEADER: signature, routes.WORKER_HEADER: "", routes.REQUEST_ID_HEADER: call.request_id}
    url = URL(f"http://127.0.0.1:{relay.port}{routes.GATE_CENTRE}")
    async with relay.session.get(url, headers=headers) as reply:
        body = await reply.read()
    assert reply.status == 200
    assert check_answer(relay.key, nonce, 200, body, reply.headers[SIGNATURE_HEADER])
    assert reply.headers["Content-Type"] == "application/json"
    assert routes.ORIGIN_HEADER not in reply.headers, "it is the keeper's own answer"
    assert set(orjson.loads(body)) == {"airflow_version", "python_version", "signing_keys"}
    CentreFacts.model_validate_json(body)
