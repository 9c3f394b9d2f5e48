"""One payload at this consumer, from its grant to its report."""

import asyncio
from collections.abc import Awaitable, Callable

from edge_schemas.wire.jobs import Job
from edge_schemas.wire.polls import Grant
from edge_schemas.wire.worker_report import JobPhase
from edge_worker.client.ending import Ending, Stop, StopKind, ending_of
from edge_worker.client.payload_job import PayloadJob
from edge_worker.log import EventLog

Handler = Callable[[PayloadJob], Awaitable[bytes | str | None]]

log = EventLog("edge_worker.client.handling")


class Handling:
    """A granted job; a `HeldJob` of the registry.

    Attributes:
        receipt: Of the grant.
        phase: As polls report it.
        stopped: Why the handler is to end.
    """

    def __init__(self, grant: Grant) -> None:
        self.job: Job = grant.job
        self.receipt = grant.receipt
        self.phase = JobPhase.GRANTED
        self.stopped: Stop | None = None
        self._task: asyncio.Future[bytes | str | None] | None = None

    @property
    def id(self) -> str:
        """The job's id."""
        return self.job.id

    @property
    def uses_slot(self) -> bool:
        """Whether another job has to wait for it."""
        return self.phase is not JobPhase.FINISHING

    def stop(self, stop: Stop) -> None:
        """Ends the handler. Directives are repeated: the handler is cancelled once, so it can clean up.

        A later stop counts only if it says that nothing is to be reported.
        """
        if self.phase is JobPhase.FINISHING:
            return
        is_first, is_drop = self.stopped is None, stop.kind is StopKind.DROPPED
        if is_first or is_drop:
            self.stopped = stop
        if is_first and self._task is not None:
            self._task.cancel()

    async def handle(self, handler: Handler, append: Callable[[str], None]) -> Ending | None:
        """Calls the handler and returns what to report."""
        job = PayloadJob(self.job, log=append, stop_reason=lambda: self.stopped.reason if self.stopped else None)
        if self.stopped is not None:
            return ending_of(None, asyncio.CancelledError(), self.stopped, attempt=job.attempt)
        self._task = asyncio.ensure_future(handler(job))
        try:
            await asyncio.wait({self._task})
        except asyncio.CancelledError:
            self._task.cancel()
            raise
        error: BaseException | None = None
        if self._task.cancelled():
            error = asyncio.CancelledError("the handler was cancelled")
        else:
            error = self._task.exception()
        ending = ending_of(None if error else self._task.result(), error, self.stopped, attempt=job.attempt)
        _log_end(self.job, error, self.stopped, ending)
        return ending


def _log_end(job: Job, error: BaseException | None, stop: Stop | None, ending: Ending | None) -> None:
    """An error that the handler did not choose is a fault of its program: with a traceback in the consumer's log."""
    why = None if stop is None else stop.reason
    log.info("payload_ended", job=job.id, attempt=job.attempt, stopped=why, error=None if error is None else str(error))
    unexpected = error is not None and stop is None and not type(error).__module__.endswith("client.payload_job")
    if unexpected and isinstance(error, Exception):
        try:
            raise error
        except Exception:
            log.exception("handler_failed", job=job.id, attempt=job.attempt, reported=str(ending))
