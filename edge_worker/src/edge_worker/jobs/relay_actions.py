"""The actions of a job that are calls to the relay. Each is repeated until its answer is final."""

import asyncio
from dataclasses import dataclass

from edge_schemas.wire.job_calls import EndReport, FinishRequest, ReleaseRequest, StartRequest
from edge_worker.jobs.driver import JobDriver
from edge_worker.jobs.events import (
    FinishAnswered,
    HolderConfirmed,
    HolderRefused,
    ReleaseAnswered,
    StartConfirmed,
    StartRefused,
)
from edge_worker.jobs.lease import CHECK_EVERY_S, Lease
from edge_worker.log import EventLog
from edge_worker.relay.call_result import CallError, NoAnswer, Refused
from edge_worker.relay.client import RelayClient
from edge_worker.relay.link import Link
from edge_worker.relay.retry import Backoff, until_final

ASK_CAP_S = 5.0
MAX_REASON_CHARS = 500
"""Of a release."""

log = EventLog("edge_worker.jobs.relay_actions")


@dataclass(frozen=True)
class RelayActions:
    """Start, ask for the holder, release, report.

    Attributes:
        incarnation: Of this run of the agent, which need not be the one that started a job or wrote an outcome down.
    """

    client: RelayClient
    link: Link
    lease: Lease
    incarnation: int

    async def start(self, driver: JobDriver) -> StartConfirmed | StartRefused:
        """Has the relay confirm that this worker holds the job; notes that in its folder."""
        try:
            await until_final(lambda: self._start(driver), pause=self.link.pause)
        except Refused as error:
            log.warning("start_refused", code=error.code, reason=str(error))
            return StartRefused()
        try:
            driver.dir.mark_started()
        except OSError as error:
            log.warning("start_not_marked", error=str(error))
        return StartConfirmed()

    async def ask_holder(self, driver: JobDriver) -> HolderConfirmed | HolderRefused:
        """Asks whether this worker holds the job. The answer to a poll proves nothing: it may not read the record."""
        backoff = Backoff(cap_s=ASK_CAP_S)
        try:
            await until_final(lambda: self._confirm(driver), pause=self.link.pause, backoff=backoff)
        except Refused as error:
            log.warning("holder_not_confirmed", code=error.code, reason=str(error))
            return HolderRefused(error.code, str(error))
        return HolderConfirmed()

    async def release(self, driver: JobDriver, reason: str, *, counts: bool) -> ReleaseAnswered:
        """Releases the job at the relay."""
        request = ReleaseRequest(receipt=driver.now.receipt, reason=reason[:MAX_REASON_CHARS], counted=counts)
        log.info("job_released", job=driver.id, reason=reason)
        try:
            await until_final(lambda: self.client.release(driver.id, request), pause=self.link.pause)
        except Refused as error:
            log.info("release_refused", job=driver.id, code=error.code)
            return ReleaseAnswered(error.code)
        return ReleaseAnswered()

    async def report(self, driver: JobDriver, finish: EndReport) -> FinishAnswered:
        """Reports an outcome, which is on disk before the first try and until a final answer: the outbox.

        A refusal (the job was given up, another worker holds it) is a final answer too.
        """
        try:
            driver.dir.put_finish(finish)
        except OSError as error:
            log.error("finish_not_on_disk", error=str(error))  # noqa: TRY400 - the cause is in the event
        request = FinishRequest(
            **dict(finish),
            incarnation=self.incarnation,
            receipt=driver.now.receipt or None,
            result=None if driver.job.terms is None else driver.dir.result(),
        )
        is_accepted = True
        try:
            await until_final(
                lambda: self.client.finish(driver.id, request), pause=self.link.pause, on_retry=_log_that_it_waits
            )
        except Refused as error:
            log.warning("finish_refused", code=error.code, reason=str(error))
            is_accepted = False
        try:
            driver.dir.mark_finished()
        except OSError as error:
            # After a restart it is reported once more, which the relay answers like the first time.
            log.warning("finish_not_marked", error=str(error))
        log.info(
            "job_finished",
            exit_code=finish.exit_code,
            reason=finish.reason,
            final_state=driver.now.final_state,
            stopped=driver.now.stop.reason if driver.now.stop else None,
            accepted=is_accepted,
        )
        return FinishAnswered()

    async def _start(self, driver: JobDriver) -> None:
        request = StartRequest(receipt=driver.now.receipt, incarnation=self.incarnation)
        await self.client.start(driver.id, request)

    async def _confirm(self, driver: JobDriver) -> None:
        """One try, once there is contact.

        Raises:
            CallError: There is no answer that still counts.
        """
        while (left_s := self.lease.left_s(driver)) <= 0:  # noqa: ASYNC110 - a clock sets no event
            await asyncio.sleep(CHECK_EVERY_S)
        asked_at = self.lease.now()
        await self._start(driver)
        if self.lease.now() - asked_at >= left_s:
            raise NoAnswer("the answer took so long that the job may have been given up since")


def _log_that_it_waits(error: CallError, delay_s: float) -> None:
    log.debug("finish_waits", reason=str(error), delay_s=round(delay_s, 1))
