"""How a supervisor calls the agent's local gateway: it waits for an answer, however long that takes.

The Task SDK treats a read that fails or times out as "no such variable", and the task continues with a default value.
Therefore a call here ends with an answer or not at all, unless the job itself has to end: then a read is refused in the
only way that the SDK raises in user code.
"""

import json
import time
import uuid
from collections.abc import Callable
from functools import partial

import httpx
from typing_extensions import override

from edge_worker.task_host.output_drain import OutputDrain
from edge_worker.task_host.supervision.fence import Guard

REQUEST_ID = "x-request-id"
NO_ANSWER = frozenset({429, 502, 503, 504})
"""Answers of something between the supervisor and Airflow. Airflow has not decided anything: the call is repeated."""

_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 2.0
_CONNECT_S = 5.0
_HEARTBEAT_S = 5.0
"""The gateway answers a heartbeat by itself; an agent that takes longer is not alive."""
_AGAIN_S = 5.0
_TELL_AFTER_S = 30.0
"""As the gateway does for a call that it holds."""
_READS = frozenset({"GET", "HEAD"})


class WaitingTransport(httpx.HTTPTransport):
    """Sends HTTP over the gateway's Unix socket and repeats a call, under one request id, until it is answered.

    The gateway runs in the agent, which may be restarting. Meanwhile heartbeats are answered here: whether the task may
    continue is decided by the centre and by the agent, and by the fence where no agent answers.

    Args:
        gateway_socket: Of the agent's local gateway.
        output_drain: Reads the task's output while a call waits.
        guard: Ends the job at its fence.
        log: Writes a line to the task's log.
    """

    def __init__(
        self, gateway_socket: str, output_drain: OutputDrain, guard: Guard, log: Callable[[str], object]
    ) -> None:
        super().__init__(uds=gateway_socket)
        self._output_drain = output_drain
        self._guard = guard
        self._log = log

    @override
    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """See `httpx.BaseTransport.handle_request`."""
        request.headers[REQUEST_ID] = uuid.uuid4().hex
        return self._output_drain.call(partial(self._until_answered, request))

    def _until_answered(self, request: httpx.Request) -> httpx.Response:
        is_heartbeat = request.url.path.endswith("/heartbeat")
        pause = _FIRST_PAUSE_S
        began, was_told = time.monotonic(), False
        while True:
            answer = self._try(request, read_s=_HEARTBEAT_S if is_heartbeat else self._patience())
            waited_s = time.monotonic() - began
            if answer is not None:
                if was_told:
                    self._log(f"Edge worker: the agent answers again after {waited_s:.0f} s; the task continues")
                return answer
            if self._guard.must_stop():
                return _refused_at_fence(request)
            if is_heartbeat:
                return httpx.Response(204, request=request)
            if waited_s >= _TELL_AFTER_S and not was_told and not self._guard.agent_answers():
                was_told = True
                self._log(
                    f"Edge worker: this task waits: the agent on this machine did not answer for {waited_s:.0f} s"
                )
            time.sleep(pause)
            pause = min(pause * 1.5, _LONGEST_PAUSE_S)

    def _patience(self) -> float | None:
        """Seconds until the fence has to be checked; an agent may hang while it holds a call."""
        left = self._guard.fence.seconds_left()
        return None if left is None else max(left, _AGAIN_S)

    def _try(self, request: httpx.Request, *, read_s: float | None) -> httpx.Response | None:
        request.extensions["timeout"] = gateway_timeout(read_s).as_dict()
        try:
            response = super().handle_request(request)
            # Read here, where a connection lost in the middle of the body leads to a repetition.
            response.read()
        except (httpx.NetworkError, httpx.RemoteProtocolError, httpx.ConnectTimeout, httpx.ReadTimeout):
            return None
        return None if response.status_code in NO_ANSWER else response


def _refused_at_fence(request: httpx.Request) -> httpx.Response:
    """The same refusal as the gateway's for a job that is to stop."""
    why = "the agent does not answer, and the worker was out of contact for too long"
    if request.method in _READS:
        status, detail = 403, {"reason": "forbidden", "message": why}
    else:
        status, detail = 409, {"reason": "not_running", "message": why, "current_state": "failed"}
    # The SDK recognises an error of the Execution API by exactly this content type.
    headers = {"Content-Type": "application/json"}
    return httpx.Response(status, headers=headers, content=json.dumps({"detail": detail}).encode(), request=request)


def gateway_timeout(read_s: float | None = None) -> httpx.Timeout:
    """No limit for an answer unless given. The limit for connecting is short: connecting is tried again."""
    return httpx.Timeout(None, connect=_CONNECT_S, read=read_s)
