"""Lines in a task's own log about a call that is held: what the task waits for, since when, and how the wait ended."""

import asyncio
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from edge_worker.jobs.driver import JobDriver
from edge_worker.jobs.process_actions import log_to_task
from edge_worker.relay.client import ExecutionCall

TELL_AFTER_S = 30.0
_PATH_CHARS = 200


class HoldNotice:
    """Around one call. A wait that ends within `TELL_AFTER_S` leaves no line.

    A further line is written only if the reason has changed, and each after twice the time of the one before: an outage
    of weeks leaves a few.
    """

    def __init__(self, driver: JobDriver, call: ExecutionCall) -> None:
        self._held = driver
        self._call = name_of(call)
        self._reason = "no answer yet"
        self._told = ""
        self._loop = asyncio.get_running_loop()
        self._next_s = TELL_AFTER_S

    def __enter__(self) -> Self:
        self._began = self._loop.time()
        self._since = datetime.now(tz=UTC).isoformat(timespec="seconds")
        self._timer = self._loop.call_later(self._next_s, self._tell)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        if not self._told or isinstance(error, asyncio.CancelledError):
            # A call that is cancelled is repeated to the next agent.
            return
        waited_s = self._loop.time() - self._began
        reason = "; the task continues" if error is None else f": {error}"
        log_to_task(self._held, f"Edge worker: the wait for {self._call} ended after {waited_s:.0f} s{reason}")

    def failed(self, reason: str) -> None:
        """A try has failed; the call is held."""
        self._reason = reason

    def _tell(self) -> None:
        if self._reason != self._told:
            self._told = self._reason
            log_to_task(
                self._held,
                f"Edge worker: this task waits for {self._call} since {self._since}: {self._reason}. "
                "The call is repeated until it is answered",
            )
        self._timer = self._loop.call_later(self._next_s, self._tell)
        self._next_s *= 2


def name_of(call: ExecutionCall) -> str:
    """The call for people: without its query, and not longer than a line."""
    path = call.raw_path if len(call.raw_path) <= _PATH_CHARS else f"{call.raw_path[:_PATH_CHARS]}…"
    return f"{call.method} {path}"
