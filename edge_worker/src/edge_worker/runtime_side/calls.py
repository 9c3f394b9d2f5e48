"""How a supervisor speaks to the agent's local gateway: it waits for an answer, however long that takes.

The Task SDK takes a read that fails or times out for "no such variable", and the task goes on with a default value. So
a call here ends in an answer or not at all.
"""

import time
import uuid
from functools import partial

import httpx
from typing_extensions import override

from edge_worker.runtime_side.pump import OutputPump

REQUEST_ID = "x-request-id"
NO_ANSWER = frozenset({429, 502, 503, 504})
"""What only something between the supervisor and Airflow says. Airflow has not decided anything: ask again."""

_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 2.0
_CONNECT_S = 5.0


class WaitingTransport(httpx.HTTPTransport):
    """Speaks HTTP over the gateway's Unix socket and repeats a call, under one request id, until it is answered.

    The gateway lives in the agent, which may be restarting. Heartbeats are answered here meanwhile: whether the task
    may go on is decided by the centre and by the agent's fence, not by a missing gateway.
    """

    def __init__(self, gateway_socket: str, pump: OutputPump) -> None:
        super().__init__(uds=gateway_socket)
        self._pump = pump

    @override
    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """See `httpx.BaseTransport.handle_request`."""
        request.headers[REQUEST_ID] = uuid.uuid4().hex
        return self._pump.call(partial(self._until_answered, request))

    def _until_answered(self, request: httpx.Request) -> httpx.Response:
        pause = _FIRST_PAUSE_S
        while True:
            answer = self._try(request)
            if answer is not None:
                return answer
            if request.url.path.endswith("/heartbeat"):
                return httpx.Response(204, request=request)
            time.sleep(pause)
            pause = min(pause * 1.5, _LONGEST_PAUSE_S)

    def _try(self, request: httpx.Request) -> httpx.Response | None:
        try:
            response = super().handle_request(request)
            # Read here, where a connection lost in the middle of the body leads to a repeat.
            response.read()
        except (httpx.NetworkError, httpx.RemoteProtocolError, httpx.ConnectTimeout):
            return None
        return None if response.status_code in NO_ANSWER else response


def gateway_timeout() -> httpx.Timeout:
    """No limit on how long an answer may take; a socket that takes no connection is tried again."""
    return httpx.Timeout(None, connect=_CONNECT_S)
