"""Uploads the logs of jobs while they grow. A log error never touches the task."""

import asyncio

from edge_schemas.errors import ErrorCode
from edge_worker.jobs import HeldJob
from edge_worker.link import Link
from edge_worker.log import EventLog
from edge_worker.relay_client import CallError, Refused, RelayClient
from edge_worker.retry import Backoff, Fate, fate_of
from edge_worker.spool import Spool

LOOK_EVERY_S = 0.3
UPLOAD_EVERY_S = 0.5
"""A line is in Airflow two seconds after it was printed; more calls than that would serve nobody."""
_MAX_REWINDS = 5

log = EventLog("edge_worker.upload_loop")


class LogUploader:
    """Follows the logs of all jobs, each in a loop of its own."""

    def __init__(self, client: RelayClient, link: Link) -> None:
        self._client = client
        self._link = link

    async def follow(self, held: HeldJob) -> None:
        """Uploads until the job's process is gone and the relay has every byte, or wants no more of them."""
        spool = Spool(held.dir)
        backoff = Backoff(first_s=UPLOAD_EVERY_S, cap_s=10)
        rewinds = 0
        while True:
            # Asked before the backlog: what is printed in between must not be left behind.
            was_gone = held.gone.is_set()
            try:
                sent = await self._upload_backlog(held.id, spool)
                backoff.reset()
                if was_gone and not spool.backlog():
                    return
                await _until_gone(held, UPLOAD_EVERY_S if sent else LOOK_EVERY_S)
            except Refused as error:
                rewinds = rewinds + 1 if self._rewind(spool, error) else 0
                if rewinds > _MAX_REWINDS or (rewinds == 0 and fate_of(error) is Fate.FINAL):
                    log.warning("log_upload_refused", code=error.code, reason=str(error), offset=spool.offset)
                    return
                await self._link.pause(backoff.next_pause(error))
            except CallError as error:
                log.debug("log_upload_failed", reason=str(error))
                await self._link.pause(backoff.next_pause(error))
            except OSError as error:
                log.error("log_not_readable", error=str(error))  # noqa: TRY400 - the cause is in the event
                return

    async def _upload_backlog(self, job: str, spool: Spool) -> bool:
        sent = False
        while chunk := spool.next_chunk():
            before = spool.offset
            position = await self._client.append_log(job, before, chunk)
            spool.adopt(position.offset)
            sent = True
            if position.offset <= before:
                break
        return sent

    def _rewind(self, spool: Spool, error: Refused) -> bool:
        expected = error.problem.expected_offset
        if error.code != ErrorCode.OFFSET_MISMATCH or expected is None:
            return False
        log.info("spool_rewound", offset=spool.offset, expected_offset=expected)
        spool.adopt(expected)
        return True


async def _until_gone(held: HeldJob, timeout_s: float) -> None:
    """Waits, but not beyond the end of the job's process."""
    if held.gone.is_set():
        return
    try:
        async with asyncio.timeout(timeout_s):
            await held.gone.wait()
    except TimeoutError:
        return
