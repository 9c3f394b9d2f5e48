"""Keeps a supervisor attentive: a task's output is read while a call hangs, and its end is seen when it happens.

The Task SDK's supervisor has one thread. While it waits for an answer it does not read the task's pipes, and a task
that prints from another thread stands still; so calls are made in a helper thread while the main thread reads.
"""

import contextlib
import os
import select
import selectors
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial, wraps
from typing import Any, TypeVar

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

    def install(self, subprocess_class: Any, method: str, on_start: Callable[[], None]) -> None:
        """Have the SDK's class show us its instance as soon as the process with user code exists.

        Args:
            subprocess_class: One of the SDK's kinds of supervised process.
            method: That the SDK calls first once the process was forked.
            on_start: Called then; threads may be started from there on.
        """
        original = getattr(subprocess_class, method, None)
        if original is None:
            return

        @wraps(original)
        def show(process: Any, *args: Any, **kwargs: Any) -> Any:
            self.process = process
            on_start()
            if self._readable():
                self._prepare_handlers()
                _wake_at_exit(process)
            return original(process, *args, **kwargs)

        setattr(subprocess_class, method, show)

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


class _Exit:
    """Becomes readable when a process exits; looks like a socket to the SDK's loop."""

    def __init__(self, pid: int) -> None:
        self._pidfd = os.pidfd_open(pid)

    def fileno(self) -> int:
        return self._pidfd

    def close(self) -> None:
        os.close(self._pidfd)


def _wake_at_exit(process: Any) -> None:
    """Have the SDK's loop see the end of the task's process at once (Linux).

    It looks whether the process has ended whenever a socket has something to say. When the last socket closes a moment
    before the process is gone, nothing wakes it until the next heartbeat is due.
    """
    with contextlib.suppress(AttributeError, OSError):
        process.selector.register(
            _Exit(process.pid), selectors.EVENT_READ, (lambda _: False, process.selector.unregister)
        )


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
