"""How a supervisor speaks to the agent's local gateway: it waits for an answer, and reads the task's output meanwhile.

Two faults of the Task SDK make this necessary. A read that fails or times out is taken for "no such variable" and the
task goes on with a default value; so a call here ends in an answer or not at all. And a supervisor that waits for an
answer does not read the task's pipes, so that a task that prints from another thread stands still; so calls are made
in a helper thread while the main thread reads.
"""

import os
import select
import socket
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial, wraps
from typing import Any, TypeVar

import httpx
from typing_extensions import override

REQUEST_ID = "x-request-id"
NO_ANSWER = frozenset({429, 502, 503, 504})
"""What only something between the supervisor and Airflow says. Airflow has not decided anything: ask again."""

_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 2.0
_CONNECT_S = 5.0
_OUTPUT = frozenset({"stdout", "stderr", "logs"})

T = TypeVar("T")
Handler = Callable[[socket.socket], bool]


class OutputPump:
    """Reads a task's output while a call hangs.

    It uses names that the SDK does not promise. `install` looks whether they are there; without them a call simply
    blocks and the output waits.
    """

    def __init__(self) -> None:
        self.process: Any = None
        self._wake: tuple[int, int] | None = None

    def install(self, subprocess_class: Any) -> None:
        """Have the SDK's class show us its instance as soon as the task's process exists."""
        original = getattr(subprocess_class, "_on_child_started", None)
        if original is None:
            return

        @wraps(original)
        def on_child_started(process: Any, *args: Any, **kwargs: Any) -> Any:
            self.process = process
            self._prepare_handlers()
            return original(process, *args, **kwargs)

        subprocess_class._on_child_started = on_child_started  # noqa: SLF001

    def call(self, work: Callable[[], T]) -> T:
        """The result of `work`, during which the task's output is read.

        Before the task's process exists there is nothing to read, and no thread may be started: it would not survive
        the fork.
        """
        if not self._readable():
            return work()
        if self._wake is None:
            self._wake = os.pipe()
        done, done_writer = self._wake
        outcome: Future[T] = Future()
        helper = threading.Thread(target=_work, args=(work, outcome, done_writer), daemon=True)
        helper.start()
        self._pump_until(done)
        helper.join()
        return outcome.result()

    def _readable(self) -> bool:
        return hasattr(self.process, "selector") and hasattr(self.process, "_open_sockets")

    def _output(self) -> dict[int, socket.socket]:
        """The open output sockets by descriptor; never the one whose request is being served."""
        sockets = list(self.process._open_sockets.items())  # noqa: SLF001
        return {sock.fileno(): sock for sock, name in sockets if name in _OUTPUT and sock.fileno() >= 0}

    def _pump_until(self, done: int) -> None:
        while True:
            output = self._output()
            poll = select.poll()
            for descriptor in (done, *output):
                poll.register(descriptor, select.POLLIN)
            for descriptor, _ in poll.poll():
                if descriptor == done:
                    os.read(descriptor, 1)
                    return
                self._read(output[descriptor])

    def _read(self, sock: socket.socket) -> None:
        handler, on_close = self.process.selector.get_key(sock).data
        try:
            more = handler(sock)
        except (BrokenPipeError, ConnectionResetError):
            more = False
        if not more:
            on_close(sock)
            sock.close()

    def _prepare_handlers(self) -> None:
        """Let the SDK's loop find a socket already read or closed.

        It asks which sockets are ready and then serves them one by one. If serving the first hangs, this pump reads
        the others, and the loop would then block on an empty socket or fail on a closed one.
        """
        if not self._readable():
            return
        selector = self.process.selector
        for sock in self._output().values():
            key = selector.get_key(sock)
            handler, on_close = key.data
            selector.modify(sock, key.events, (partial(_read_if_ready, handler), on_close))


def _work(work: Callable[[], T], outcome: "Future[T]", done: int) -> None:
    try:
        outcome.set_result(work())
    except BaseException as error:  # noqa: BLE001 (raised again in the main thread)
        outcome.set_exception(error)
    finally:
        os.write(done, b"!")


def _read_if_ready(handler: Handler, sock: socket.socket) -> bool:
    if sock.fileno() < 0:
        return True
    # The SDK makes a socket non-blocking only to drain it, and then relies on the error that says "empty".
    if sock.getblocking():
        poll = select.poll()
        poll.register(sock, select.POLLIN)
        if not poll.poll(0):
            return True
    return handler(sock)


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
