"""The one crossing between the scheduler's thread and our event loop.

The scheduler calls an executor from its main loop, where nothing may block. All code that waits for NATS or for the
database therefore runs in an event loop of its own, in a daemon thread; every wait for it is bounded.
"""

import asyncio
import concurrent.futures
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import TypeVar

import structlog

from edge_service.task_cleanup import CANCEL_AGAIN_S

log = structlog.get_logger(__name__)

T = TypeVar("T")
START_TIMEOUT_S = 5.0


class Portal:
    """An event loop in a thread, between `start()` and `stop()`."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._main: asyncio.Task[None] | None = None
        self._running = threading.Event()

    def start(self, main: Callable[[], Awaitable[None]]) -> None:
        """Start the thread and `main` in its loop; `main` runs until it is cancelled by `stop()`.

        Raises:
            TimeoutError: The thread did not come up.
        """
        self._thread = threading.Thread(target=self._run, args=(main,), name=self._name, daemon=True)
        self._thread.start()
        if not self._running.wait(START_TIMEOUT_S):
            raise TimeoutError(f"thread {self._name} did not start within {START_TIMEOUT_S:g} s")

    def post(self, callback: Callable[..., object], *args: object) -> None:
        """Run a callback in the loop, in the order of posting; does nothing once the loop has ended."""
        if self._loop is None:
            return
        try:
            self._loop.call_soon_threadsafe(callback, *args)
        except RuntimeError:
            log.debug("portal_closed", portal=self._name)

    def call(self, function: Callable[[], Coroutine[object, object, T]], timeout_s: float) -> T | None:
        """Run a coroutine in the loop and wait for its result, for a limited time.

        Returns:
            Its result. None if the time is over or the loop has ended: then the coroutine is cancelled. None, too, if
            the coroutine failed: an exception would end the scheduler or a log page, and neither could handle it.
        """
        if self._loop is None or self._loop.is_closed():
            return None
        coroutine = function()
        try:
            future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        except RuntimeError:
            coroutine.close()
            return None
        try:
            return future.result(timeout_s)
        except (concurrent.futures.TimeoutError, concurrent.futures.CancelledError):
            future.cancel()
            return None
        except Exception:
            log.exception("portal_call_failed", portal=self._name)
            return None

    def stop(self, timeout_s: float) -> bool:
        """Cancel `main`, end the loop and its thread; False if that took longer than the time given."""
        if self._thread is None:
            return True
        give_up = time.monotonic() + timeout_s
        while self._thread.is_alive() and (left_s := give_up - time.monotonic()) > 0:
            # Repeated: nats-py swallows a cancellation that arrives at the end of a call.
            if self._main is not None:
                self.post(self._main.cancel)
            self._thread.join(min(left_s, CANCEL_AGAIN_S))
        return not self._thread.is_alive()

    def _run(self, main: Callable[[], Awaitable[None]]) -> None:
        with asyncio.Runner() as runner:
            self._loop = runner.get_loop()
            try:
                runner.run(self._supervise(main))
            except asyncio.CancelledError:
                log.debug("portal_stopped", portal=self._name)

    async def _supervise(self, main: Callable[[], Awaitable[None]]) -> None:
        self._main = asyncio.current_task()
        self._running.set()
        await main()
