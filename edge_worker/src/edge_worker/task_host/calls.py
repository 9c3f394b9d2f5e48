"""How a supervisor speaks to the agent's local gateway: it waits for an answer, however long that takes.

The Task SDK takes a read that fails or times out for "no such variable", and the task goes on with a default value. So
a call here ends in an answer or not at all, unless the job itself has to end: then a read is refused in the one way
that the SDK raises in user code.
"""

import json
import time
import uuid
from functools import partial

import httpx
from typing_extensions import override

from edge_worker.task_host.fence import Guard
from edge_worker.task_host.output_drain import OutputPump

REQUEST_ID = "x-request-id"
NO_ANSWER = frozenset({429, 502, 503, 504})
"""What only something between the supervisor and Airflow says. Airflow has not decided anything: ask again."""

_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 2.0
_CONNECT_S = 5.0
_BEAT_S = 5.0
"""The gateway answers a heartbeat by itself; one that takes longer comes from no living agent."""
_AGAIN_S = 5.0
_READS = frozenset({"GET", "HEAD"})


class WaitingTransport(httpx.HTTPTransport):
    """Speaks HTTP over the gateway's Unix socket and repeats a call, under one request id, until it is answered.

    The gateway lives in the agent, which may be restarting. Heartbeats are answered here meanwhile: whether the task
    may go on is decided by the centre and by the agent, and by the fence where no agent answers.
    """

    def __init__(self, gateway_socket: str, output_drain: OutputPump, guard: Guard) -> None:
        super().__init__(uds=gateway_socket)
        self._pump = output_drain
        self._guard = guard

    @override
    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """See `httpx.BaseTransport.handle_request`."""
        request.headers[REQUEST_ID] = uuid.uuid4().hex
        return self._pump.call(partial(self._until_answered, request))

    def _until_answered(self, request: httpx.Request) -> httpx.Response:
        is_beat = request.url.path.endswith("/heartbeat")
        pause = _FIRST_PAUSE_S
        while True:
            answer = self._try(request, read_s=_BEAT_S if is_beat else self._patience())
            if answer is not None:
                return answer
            if self._guard.must_stop():
                return _no_longer(request)
            if is_beat:
                return httpx.Response(204, request=request)
            time.sleep(pause)
            pause = min(pause * 1.5, _LONGEST_PAUSE_S)

    def _patience(self) -> float | None:
        """Until the fence has to be looked at; an agent may hang while a call is held."""
        left = self._guard.fence.seconds_left()
        return None if left is None else max(left, _AGAIN_S)

    def _try(self, request: httpx.Request, *, read_s: float | None) -> httpx.Response | None:
        request.extensions["timeout"] = gateway_timeout(read_s).as_dict()
        try:
            response = super().handle_request(request)
            # Read here, where a connection lost in the middle of the body leads to a repeat.
            response.read()
        except (httpx.NetworkError, httpx.RemoteProtocolError, httpx.ConnectTimeout, httpx.ReadTimeout):
            return None
        return None if response.status_code in NO_ANSWER else response


def _no_longer(request: httpx.Request) -> httpx.Response:
    """As the gateway refuses for a job that is to stop."""
    why = "the agent does not answer, and the worker was out of contact for too long"
    if request.method in _READS:
        status, detail = 403, {"reason": "forbidden", "message": why}
    else:
        status, detail = 409, {"reason": "not_running", "message": why, "current_state": "failed"}
    # The SDK knows an error of the Execution API by exactly this content type.
    headers = {"Content-Type": "application/json"}
    return httpx.Response(status, headers=headers, content=json.dumps({"detail": detail}).encode(), request=request)


def gateway_timeout(read_s: float | None = None) -> httpx.Timeout:
    """No limit on how long an answer may take unless given; a socket that takes no connection is tried again."""
    return httpx.Timeout(None, connect=_CONNECT_S, read=read_s)
