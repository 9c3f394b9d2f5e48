"""A supervisor's calls, and the output that is read meanwhile."""

import selectors
import socket
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from edge_worker.task_host import calls
from edge_worker.task_host.calls import WaitingTransport
from edge_worker.task_host.output_drain import OutputDrain
from edge_worker.task_host.protocol import Offline
from edge_worker.task_host.supervision import fence
from edge_worker.task_host.supervision.fence import Guard, SupervisorFence

STATE = "http://gateway/jobs/j/execution/task-instances/t/state"
READ = "http://gateway/jobs/j/execution/variables/v"
BEAT = "http://gateway/jobs/j/execution/task-instances/t/heartbeat"


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses made between tries; none is slept."""
    made: list[float] = []
    monkeypatch.setattr("time.sleep", made.append)
    return made


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """What the gateway does at each try: a status, or an error that is raised."""
    planned: list[Any] = []

    def answer(_: Any, request: httpx.Request) -> httpx.Response:
        seen.append(request.headers[calls.REQUEST_ID])
        step = planned.pop(0)
        if isinstance(step, Exception):
            raise step
        return httpx.Response(step, request=request)

    seen: list[str] = []
    monkeypatch.setattr(httpx.HTTPTransport, "handle_request", answer)
    yield planned
    assert len(set(seen)) <= 1, "one call, one request id"


def _send(method: str, url: str, *, log: list[str] | None = None, **lease: Any) -> httpx.Response:
    guard = Guard(_fence(**lease), "/nowhere/gw.sock")
    lines = [] if log is None else log
    with WaitingTransport("/nowhere/gw.sock", OutputDrain(), guard, lines.append) as transport:
        return transport.handle_request(httpx.Request(method, url))


def _fence(
    *, fence_after_s: float | None = None, tolerance_s: float = 10, said: list[str] | None = None
) -> SupervisorFence:
    """A fence without a lease; by default the job may continue without limit."""
    offline: Offline = {"tolerance_s": tolerance_s, "fence_after_s": fence_after_s}
    return SupervisorFence(Path("/nowhere/lease"), offline, (said if said is not None else []).append)


def test_call_is_repeated_under_one_id_until_airflow_answers(answers: list[Any], pauses: list[float]) -> None:
    answers += [httpx.ConnectError(""), httpx.ReadError(""), httpx.RemoteProtocolError(""), 503, 502, 204]
    assert _send("PATCH", STATE).status_code == 204
    assert len(pauses) == 5
    assert pauses == sorted(pauses)


def test_a_long_wait_for_an_agent_is_told_once_and_so_is_its_end(
    answers: list[Any], pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "_TELL_AFTER_S", 0)
    answers += [httpx.ConnectError(""), httpx.ConnectError(""), httpx.ConnectError(""), 204]
    log: list[str] = []
    _send("PATCH", STATE, log=log)
    assert len(pauses) == 3
    assert ["did not answer for" in log[0], "answers again" in log[1], len(log)] == [True, True, 2]


def test_a_call_that_a_living_agent_holds_is_the_agents_to_tell(
    answers: list[Any], pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "_TELL_AFTER_S", 0)
    monkeypatch.setattr(Guard, "agent_answers", lambda _: True)
    answers += [httpx.ReadTimeout(""), 204]
    log: list[str] = []
    _send("PATCH", STATE, log=log)
    assert (len(pauses), log) == (1, [])


@pytest.mark.parametrize("status", [403, 404, 409, 410, 500])
def test_what_airflow_says_is_handed_on(answers: list[Any], pauses: list[float], status: int) -> None:
    answers += [status]
    assert _send("PATCH", STATE).status_code == status
    assert pauses == []


@pytest.mark.parametrize("trouble", [httpx.ConnectError(""), httpx.WriteError(""), 503])
def test_heartbeat_is_answered_while_the_gateway_is_away(answers: list[Any], pauses: list[float], trouble: Any) -> None:
    answers += [trouble]
    assert _send("PUT", BEAT).status_code == 204
    assert pauses == []


@pytest.mark.parametrize(("method", "url", "status"), [("PUT", BEAT, 409), ("PATCH", STATE, 409), ("GET", READ, 403)])
def test_out_of_contact_and_without_an_agent_a_job_is_ended_as_the_gateway_would(
    answers: list[Any], pauses: list[float], method: str, url: str, status: int
) -> None:
    answers += [httpx.ConnectError("")]
    said: list[str] = []
    response = _send(method, url, fence_after_s=0, said=said)
    assert response.status_code == status
    # The SDK compares the string.
    assert response.headers["content-type"] == "application/json"
    assert response.json()["detail"]["reason"] == ("forbidden" if method == "GET" else "not_running")
    assert said[0].startswith("This task is stopped: the edge worker's agent does not answer and had no contact")
    assert pauses == []


def test_once_another_copy_may_run_nothing_is_asked_to_stop_before_it_is_killed(
    answers: list[Any], pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The SDK answers a refusal with SIGTERM, upon which user code would run its `on_kill`."""
    answers += [httpx.ConnectError("")]
    killed: list[str] = []
    monkeypatch.setattr(fence, "end_descendants", lambda: killed.append("all"))
    said: list[str] = []
    assert _send("PUT", BEAT, fence_after_s=0, tolerance_s=0, said=said).status_code == 409
    assert killed == ["all"]
    assert said[0].startswith("All processes of this task are killed: ")


def test_agent_that_hangs_is_not_waited_for_beyond_the_fence(answers: list[Any], pauses: list[float]) -> None:
    answers += [httpx.ReadTimeout("")]
    assert _send("GET", READ, fence_after_s=0).status_code == 403


def test_heartbeat_answer_that_means_stop_is_handed_on(answers: list[Any], pauses: list[float]) -> None:
    answers += [409]
    assert _send("PUT", BEAT).status_code == 409


class Supervisor:
    """The parts of the SDK's class that the pump uses."""

    def __init__(self) -> None:
        self.pid = 0
        self.lines: list[bytes] = []
        self.on_close: Callable[[], None] = lambda: None
        self.ours, self.childs = socket.socketpair()
        self.requests, self.childs_requests = socket.socketpair()
        self.selector = selectors.DefaultSelector()
        self._open_sockets = weakref.WeakKeyDictionary({self.ours: "stdout", self.requests: "requests"})
        for sock in (self.ours, self.requests):
            self.selector.register(sock, selectors.EVENT_READ, (self._read, self._on_close))

    def _on_child_started(self) -> str:
        return "started"

    def _read(self, sock: socket.socket) -> bool:
        data = sock.recv(4096)
        self.lines.append(data)
        return bool(data)

    def _on_close(self, sock: socket.socket) -> None:
        self.selector.unregister(sock)
        del self._open_sockets[sock]
        self.on_close()

    def close(self) -> None:
        self.selector.close()
        for sock in (self.ours, self.childs, self.requests, self.childs_requests):
            sock.close()


@pytest.fixture
def pumped(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[OutputDrain, Supervisor]]:
    # Installing replaces the method for good, as in a fork; here it is put back.
    monkeypatch.setattr(Supervisor, "_on_child_started", Supervisor._on_child_started)
    output_drain = OutputDrain()
    started: list[str] = []
    output_drain.install(Supervisor, "_on_child_started", lambda: started.append("yes"), lambda: None)
    supervisor = Supervisor()
    assert supervisor._on_child_started() == "started"
    assert started == ["yes"]
    yield output_drain, supervisor
    supervisor.close()
    if output_drain._wake is not None:
        for end in output_drain._wake:
            socket.close(end)


def test_output_is_read_during_a_call_and_requests_are_not(pumped: tuple[OutputDrain, Supervisor]) -> None:
    output_drain, supervisor = pumped
    supervisor.childs_requests.send(b"next request")

    def call() -> str:
        # More than a socket holds.
        supervisor.childs.sendall(b"x" * 1_000_000)
        return "answer"

    assert output_drain.call(call) == "answer"
    assert set(b"".join(supervisor.lines)) == set(b"x")
    assert supervisor.requests.recv(100) == b"next request"


def test_socket_read_by_the_pump_does_not_block_the_sdks_loop(pumped: tuple[OutputDrain, Supervisor]) -> None:
    output_drain, supervisor = pumped
    supervisor.childs.send(b"a line")
    ((key, _),) = supervisor.selector.select(0)
    read = threading.Event()
    supervisor.lines = _Announcing(read)
    output_drain.call(read.wait)
    # The loop now serves what it found ready before the call: there is nothing left to read.
    assert key.data[0](key.fileobj)
    assert supervisor.lines == [b"a line"]


def test_socket_closed_by_the_pump_does_not_stop_the_sdks_loop(pumped: tuple[OutputDrain, Supervisor]) -> None:
    output_drain, supervisor = pumped
    supervisor.childs.close()
    ((key, _),) = supervisor.selector.select(0)
    closed = threading.Event()
    supervisor.on_close = closed.set
    output_drain.call(closed.wait)
    assert key.data[0](key.fileobj)


class _Announcing(list[bytes]):
    def __init__(self, event: threading.Event) -> None:
        super().__init__()
        self._event = event

    def append(self, line: bytes) -> None:
        super().append(line)
        self._event.set()


def test_error_of_a_call_is_raised_where_it_was_made(pumped: tuple[OutputDrain, Supervisor]) -> None:
    output_drain, _ = pumped
    with pytest.raises(ZeroDivisionError):
        output_drain.call(lambda: 1 / 0)


def test_sdk_without_the_names_that_the_pump_needs_calls_plainly() -> None:
    class Other:
        pass

    output_drain = OutputDrain()
    output_drain.install(Other, "_on_child_started", lambda: None, lambda: None)
    assert output_drain.call(threading.current_thread) is threading.current_thread()
