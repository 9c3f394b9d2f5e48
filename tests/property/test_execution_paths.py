"""Whatever text a key is, it reaches Airflow as it would without Edge Relay; and no path reaches another route.

The calls are made by Airflow's own client, once directly and once through the functions of gateway, relay and gate. The
server has the routes of Airflow's Execution API and is called over a real connection.
"""

import asyncio
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from airflow.sdk.api.client import Client, ServerResponseError
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edge_bridge.keeper.dispatch import TaskRow
from edge_bridge.keeper.gate.holder_call import JobCall
from edge_bridge.keeper.gate.passthrough import PassThrough
from edge_bridge.keeper.gate.server import _execution_path
from edge_bridge.keeper.gate.upstream import Answer, ExecutionApi, ExecutionCall
from edge_bridge.keeper.metrics import KeeperMetrics
from edge_bridge.keeper.policy.uses import Use
from edge_relay.jobs.execution import gate_target
from edge_schemas.gate.execution_paths import decode_path
from edge_schemas.gate.limits import CallLimits
from edge_schemas.life.events import Event, Start
from edge_schemas.life.model import JobRecord, new_record
from edge_schemas.life.transition import transition
from edge_schemas.wire import routes
from edge_schemas.wire.errors import EdgeError, ErrorCode
from edge_worker.gateway.target import target_of
from edge_worker.jobs.registry import JobRegistry
from support.airflow.api.routed_app import OUTSIDE, Arrival, RoutedApp, serving_routes
from support.relay.jobs import make_job
from support.signing.keys import UNSIGNED

pytestmark = pytest.mark.timeout(600)  # the import of Airflow's routes is slow

LIMITS = CallLimits()
PIECES = [
    *["/", "//", "\\", "%", "%2F", "%2f", "%252F", "%5C", "%00", "%0A", "%0a", "%zz", "%ff", "%E9", "%2e", "%2e%2e"],
    *[".", "..", "/../", "/./", ";", "?", "#", "&", "=", "+", "~", "~YQ", " ", "[1]", "{x}", "|^`", '"', "<>", "'"],
    *["\x00", "\t", "\n", "\r", "\x7f", "\x85", "\x9f", "\u2028", "\ufffd", "ü", "鍵", "🗝", "e\u0301"],
    *["a", "Z9", "s3://bucket/key", "C:\\data", "item/3", "slice", "keys", "run", "task-instances", "execution"],
]
KEYS = st.lists(st.sampled_from(PIECES) | st.characters(exclude_categories=["Cs"]), max_size=8).map("".join)
OPERATIONS: dict[str, Callable[[Client, Any, str], object]] = {
    "read a variable": lambda client, _, key: client.variables.get(key),
    "set a variable": lambda client, _, key: client.variables.set(key, "v"),
    "delete a variable": lambda client, _, key: client.variables.delete(key),
    "read a connection": lambda client, _, key: client.connections.get(key),
    "set an XCom": lambda client, ti, key: client.xcoms.set(ti.dag_id, ti.run_id, ti.task_id, key, 1),
    "delete an XCom": lambda client, ti, key: client.xcoms.delete(ti.dag_id, ti.run_id, ti.task_id, key),
    "read an XCom": lambda client, _, key: client.xcoms.get("other", "run", "task", key, map_index=3),
    "count XComs": lambda client, _, key: client.xcoms.head("other", "run", "task", key),
    "read an item": lambda client, _, key: client.xcoms.get_sequence_item("other", "run", "task", key, 3),
    "read a state": lambda client, ti, key: client.task_state_store.get(uuid.UUID(ti.ti_id), key),
    "set a state": lambda client, ti, key: client.task_state_store.set(uuid.UUID(ti.ti_id), key, 1, None),
    "delete a state": lambda client, ti, key: client.task_state_store.delete(uuid.UUID(ti.ti_id), key),
    "read an asset by name": lambda client, _, key: client.assets.get(name=key),
    "read an asset by URI": lambda client, _, key: client.assets.get(uri=key),
    "read an asset's state": lambda client, _, key: client.asset_state_store.get(key, uri=key),
    "set an asset's state": lambda client, _, key: client.asset_state_store.set(key, 1, name=key),
    "delete an asset's state": lambda client, _, key: client.asset_state_store.delete(key, name=key),
    "read a run": lambda client, _, key: client.dag_runs.get_state("dag", key),
    "read a DAG": lambda client, _, key: client.dags.get(key),
}


class Edge(httpx.BaseTransport):
    """The way of a call from a task's process to the api-server, as a transport of Airflow's client."""

    def __init__(self, api: ExecutionApi, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        job = make_job()
        self.record = transition(new_record(job), Start("w", 1, datetime.now(UTC)))
        assert self.record.task is not None
        self.task = self.record.task
        anything: Any = self
        self._gate = PassThrough(anything, anything, api, UNSIGNED, anything)
        self._registry = JobRegistry(1)
        self.used: tuple[Use, ...] = ()

    @property
    def url(self) -> str:
        """The base URL of the task's client."""
        return f"http://gateway/jobs/{self.record.id}/execution/"

    async def get(self, _job: str) -> JobRecord:
        """The record, for the gate."""
        return self.record

    async def one(self, _ti_id: str) -> TaskRow:
        """The task instance in Airflow's database, for the gate."""
        return TaskRow("running", self.record.id, None)

    def judge(self, _record: JobRecord, _worker: str, _dispatched: object, used: tuple[Use, ...]) -> "Edge":
        """What policies are compared with; all of it is allowed."""
        self.used = used
        return self

    def take_used(self) -> tuple[Use, ...]:
        """What the last call used, once."""
        used, self.used = self.used, ()
        return used

    def answered(self) -> None:
        """The call was answered."""

    async def query(self, _query: object) -> None:
        """Airflow's database holds nothing of the writes."""

    async def change(self, _job: str, event: Event) -> tuple[JobRecord, JobRecord]:
        """The record after an event; each call begins with the same record."""
        return self.record, transition(self.record, event)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """The gateway's and the relay's part of the way, then the gate's."""
        try:
            target = target_of(request.url.raw_path.decode("ascii"), self._registry, LIMITS)
        except EdgeError as error:
            if error.code is not ErrorCode.NOT_FOUND:
                raise
            return httpx.Response(404, json={"detail": "Not Found"}, request=request)
        query = f"?{target.query}" if target.query else ""
        path = routes.JOB_EXECUTION.format(job=self.record.id, path=target.path) + query
        to_gate, _ = gate_target(path, self.record.id, LIMITS)
        try:
            answer = self.at_gate(request.method, to_gate, request.read())
        except EdgeError as error:
            if error.code is not ErrorCode.FORBIDDEN:
                raise
            return httpx.Response(403, json={"detail": str(error)}, request=request)
        return httpx.Response(answer.status, content=answer.body, headers=dict(answer.headers), request=request)

    def at_gate(self, method: str, to_gate: str, body: bytes = b"") -> Answer:
        """The gate's answer."""
        path, query = _execution_path(to_gate, self.record.id)
        assert path is not None
        call = ExecutionCall(method, path, query, {"content-type": "application/json"}, body)
        answering = self._gate.answer(JobCall(self.record.id, "w", uuid.uuid4().hex, call))
        return asyncio.run_coroutine_threadsafe(answering, self._loop).result(20)


@pytest.fixture(scope="module")
def app() -> Iterator[RoutedApp]:
    with serving_routes() as running:
        yield running


@pytest.fixture(scope="module")
def edge(app: RoutedApp) -> Iterator[Edge]:
    class Mint:
        def mint(self, _subject: object) -> str:
            return "a-token"

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    mint: Any = Mint()
    api = ExecutionApi(app.url, mint, KeeperMetrics())
    asyncio.run_coroutine_threadsafe(api.__aenter__(), loop).result(10)
    yield Edge(api, loop)
    asyncio.run_coroutine_threadsafe(api.__aexit__(None, None, None), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def outcome(call: Callable[[], object]) -> object:
    """What user code sees: the result, or the kind of failure."""
    try:
        return call()
    except ServerResponseError as error:
        return error.response.status_code
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError) as error:
        return type(error)


@pytest.mark.parametrize("operation", OPERATIONS)
@given(key=KEYS)
@example("/data/a.csv")
@example("鍵" * 500)
@example("\u0085" * 500)
@example("%2e%2e")
@example("\n")
@settings(max_examples=20)
def test_a_key_reaches_airflow_as_it_does_directly(app: RoutedApp, edge: Edge, operation: str, key: str) -> None:
    _compare(app, edge, OPERATIONS[operation], key)


@pytest.mark.soak
@pytest.mark.parametrize("operation", OPERATIONS)
@given(key=KEYS)
@settings(max_examples=1000)
def test_a_key_reaches_airflow_for_long(app: RoutedApp, edge: Edge, operation: str, key: str) -> None:
    _compare(app, edge, OPERATIONS[operation], key)


def _compare(app: RoutedApp, edge: Edge, make: Callable[[Client, Any, str], object], key: str) -> None:
    """What Airflow receives and user code sees, directly and at the edge."""
    with Client(base_url=app.url, token="t") as client:
        direct = outcome(lambda: make(client, edge.task, key))
    expected = app.take()
    edge.take_used()
    with Client(base_url=edge.url, token="t", transport=edge) as client:
        at_edge = outcome(lambda: make(client, edge.task, key))
    if direct == 405:
        # Such as for `..` as a key. The gate refuses the method, too, in its own way.
        assert (at_edge, app.take()) == (403, [])
        return
    arrived = app.take()
    assert arrived == [one for one in expected if one.route != OUTSIDE]
    used = edge.take_used()
    for one in arrived:
        names = [*one.params.values(), *dict(one.query).values()]
        assert all(use.name in names for use in used), "a policy is compared with what Airflow gets"
    if expected and expected[0].route != OUTSIDE:
        assert at_edge == direct


@pytest.mark.parametrize("operation", OPERATIONS)
def test_each_operation_reaches_airflow(app: RoutedApp, edge: Edge, operation: str) -> None:
    """Otherwise the comparison above would show nothing."""
    with Client(base_url=edge.url, token="t", transport=edge) as client:
        outcome(lambda: OPERATIONS[operation](client, edge.task, "plain"))
    (arrival,) = app.take()
    assert "plain" in [*arrival.params.values(), *dict(arrival.query).values()]


METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]
PATHS = [
    *["variables/", "connections/x", "dags/x", "health", "dag-runs/x/y/clear", "dag-runs/x/y", "nothing/x"],
    *["task-instances/{ti}/state", "task-instances/{other}/state", "task-instances/{ti}/rtif", "hitlDetails/{ti}"],
    *["xcoms/{dag}/{run}/{task}/", "xcoms/{dag}/{run}/other/", "store/ti/{ti}/", "store/ti/{other}/", "store/ti/{ti}"],
]
ODD = st.tuples(st.integers(0, 90), st.sampled_from([*PIECES, "{ti}", "{dag}", "variables", "xcoms", "store/ti/{ti}"]))


@pytest.mark.parametrize("examples", [400, pytest.param(10_000, marks=pytest.mark.soak)])
def test_a_forged_path_reaches_no_other_route(app: RoutedApp, edge: Edge, examples: int) -> None:
    """The api-server gets the decoded path that the gate has checked, and the ids in it are the job's own."""
    ids = {"ti": edge.task.ti_id, "other": str(uuid.UUID(int=7)), "dag": "d", "run": "r", "task": "t"}
    requests_of_calls: list[int] = []

    @given(method=st.sampled_from(METHODS), path=st.sampled_from(PATHS), odd=st.lists(ODD, max_size=4))
    @example(method="GET", path="", odd=[(0, "/health%0A")])
    @example(method="GET", path="", odd=[(0, "%2Fhealth%0a")])
    @example(method="PUT", path="variables/", odd=[(10, "../task-instances/{ti}/rtif")])
    @settings(max_examples=examples)
    def forge(method: str, path: str, odd: list[tuple[int, str]]) -> None:
        raw = path
        for position, piece in odd:
            raw = raw[:position] + piece + raw[position:]
        for name, value in ids.items():
            raw = raw.replace(f"{{{name}}}", value)
        with suppress(EdgeError, UnicodeError):
            raw.encode("ascii")
            edge.at_gate(method, routes.GATE_EXECUTION.format(job=edge.record.id, path=raw))
        arrivals = app.take()
        requests_of_calls.append(len(arrivals))
        for arrival in arrivals:
            assert _filled(arrival) == "/" + "/".join(decode_path(raw.partition("?")[0]))
            assert arrival.params.get("task_instance_id", ids["ti"]) == ids["ti"]
            if arrival.route.startswith("/xcoms/") and method not in {"GET", "HEAD"}:
                assert [arrival.params[name] for name in ("dag_id", "run_id", "task_id")] == ["d", "r", "t"]

    forge()
    assert set(requests_of_calls) == {0, 1}
    few = examples / 30
    assert few < sum(requests_of_calls) < len(requests_of_calls) - few, "both happen often"


def _filled(arrival: Arrival) -> str:
    """The decoded path that matched the route."""
    path = arrival.route
    for name, value in arrival.params.items():
        path = path.replace(f"{{{name}:path}}", value).replace(f"{{{name}}}", value)
    return path
