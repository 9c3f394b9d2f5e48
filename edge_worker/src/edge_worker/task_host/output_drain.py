"""Keeps a supervisor responsive: a task's output is read while a call hangs, and its end is seen when it happens.

The Task SDK's supervisor has one thread. While it waits for an answer it does not read the task's pipes, and a task
that prints from another thread blocks. Therefore calls are made in a helper thread while the main thread reads.
"""

import contextlib
import os
import select
import selectors
import socket
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from functools import partial, wraps
from typing import Protocol, TypeVar, cast

_OUTPUT = frozenset({"stdout", "stderr", "logs"})

T = TypeVar("T")
Handler = Callable[[socket.socket], bool]


class SupervisedProcess(Protocol):
    """The part of the SDK's supervised process that is used here; the SDK does not promise it."""

    pid: int
    selector: selectors.BaseSelector
    _open_sockets: Mapping[socket.socket, str]


class OutputDrain:
    """Reads a task's output while a call hangs.

    It uses names that the SDK does not promise. `install` checks that they exist; without them a call simply blocks and
    the output waits.

    Attributes:
        process: The SDK's instance for the running process; None before there is one.
    """

    def __init__(self) -> None:
        self.process: object = None
        self._wake: tuple[int, int] | None = None

    def install(
        self,
        subprocess_class: type[object],
        method: str,
        on_start: Callable[[], None],
        on_exit: Callable[[], None],
    ) -> None:
        """Makes the SDK's class pass its instance to this object as soon as the process with user code exists.

        Args:
            subprocess_class: One of the SDK's kinds of supervised process.
            method: The method that the SDK calls first after the fork.
            on_start: Called then; threads may be started from there on.
            on_exit: Called when the process has exited, although others may keep its output open (Linux).
        """
        original = getattr(subprocess_class, method, None)
        if original is None:
            return

        @wraps(original)
        def wrapper(process: object, *args: object, **kwargs: object) -> object:
            self.process = process
            on_start()
            if (readable := self._readable()) is not None:
                _prepare_handlers(readable)
                _wake_at_exit(readable, on_exit)
            return original(process, *args, **kwargs)

        setattr(subprocess_class, method, wrapper)

    def call(self, work: Callable[[], T]) -> T:
        """The result of `work`, during which the task's output is read.

        Before the task's process exists there is nothing to read, and no thread may be started: it would not survive
        the fork.
        """
        process = self._readable()
        if process is None:
            return work()
        if self._wake is None:
            self._wake = os.pipe()
        done, done_writer = self._wake
        outcome: Future[T] = Future()
        helper = threading.Thread(target=_work, args=(work, outcome, done_writer), daemon=True)
        helper.start()
        _drain_until(done, process)
        helper.join()
        return outcome.result()

    def _readable(self) -> SupervisedProcess | None:
        """The process, if it has the names that are used here."""
        has_names = hasattr(self.process, "selector") and hasattr(self.process, "_open_sockets")
        return cast("SupervisedProcess", self.process) if has_names else None


def _output(process: SupervisedProcess) -> dict[int, socket.socket]:
    """The open output sockets by descriptor; never the one whose request is being served."""
    sockets = list(process._open_sockets.items())  # noqa: SLF001 (see `SupervisedProcess`)
    return {sock.fileno(): sock for sock, name in sockets if name in _OUTPUT and sock.fileno() >= 0}


def _drain_until(done: int, process: SupervisedProcess) -> None:
    while True:
        output = _output(process)
        poll = select.poll()
        for descriptor in (done, *output):
            poll.register(descriptor, select.POLLIN)
        for descriptor, _ in poll.poll():
            if descriptor == done:
                os.read(descriptor, 1)
                return
            _read(output[descriptor], process)


def _read(sock: socket.socket, process: SupervisedProcess) -> None:
    handler, on_close = process.selector.get_key(sock).data
    try:
        more = handler(sock)
    except (BrokenPipeError, ConnectionResetError):
        more = False
    if not more:
        on_close(sock)
        sock.close()


def _prepare_handlers(process: SupervisedProcess) -> None:
    """Makes the handlers of the SDK's loop accept a socket that was already read or closed.

    The loop asks which sockets are ready and then serves them one by one. While it serves the first and that hangs, the
    others are read here, and the loop would then block on an empty socket or fail on a closed one.
    """
    selector = process.selector
    for sock in _output(process).values():
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


def _wake_at_exit(process: SupervisedProcess, on_exit: Callable[[], None]) -> None:
    """Makes the SDK's loop see the end of the task's process at once (Linux).

    The loop checks for the end of the process whenever a socket is ready. When the last socket closes a moment before
    the process is gone, the loop would otherwise continue only when the next heartbeat is due.
    """

    def exited(_: object) -> bool:
        on_exit()
        return False

    with contextlib.suppress(AttributeError, OSError):
        process.selector.register(_Exit(process.pid), selectors.EVENT_READ, (exited, process.selector.unregister))


def _read_if_ready(handler: Handler, sock: socket.socket) -> bool:
    if sock.fileno() < 0:
        return True
    # The SDK makes a socket non-blocking only to drain it, and then relies on the error for an empty socket.
    if sock.getblocking():
        poll = select.poll()
        poll.register(sock, select.POLLIN)
        if not poll.poll(0):
            return True
    return handler(sock)
