"""Outcomes that the relay has not acknowledged: on disk before the first try, and there until a final answer."""

from edge_schemas.wire.job_calls import FinishRequest
from edge_worker.jobs.registry import LocalJob
from edge_worker.log import EventLog
from edge_worker.relay.call_result import CallError, Refused
from edge_worker.relay.client import RelayClient
from edge_worker.relay.link import Link
from edge_worker.relay.retry import until_final

log = EventLog("edge_worker.jobs.outbox")


class Outbox:
    """Delivers outcomes, however long it takes.

    Args:
        incarnation: Of this run of the agent, which need not be the one that wrote an outcome down.
    """

    def __init__(self, client: RelayClient, link: Link, incarnation: int) -> None:
        self._client = client
        self._link = link
        self._incarnation = incarnation

    async def deliver(self, held: LocalJob, finish: FinishRequest) -> bool:
        """Reports an outcome until the relay has taken it or refused it for good.

        Returns:
            Whether it was taken. A refusal (the job was given up, another holds it) settles the job just as well.
        """
        _keep(held, finish)
        finish = finish.model_copy(update={"incarnation": self._incarnation, "receipt": held.receipt or None})
        try:
            await until_final(
                lambda: self._client.finish(held.id, finish), pause=self._link.pause, on_retry=_say_that_it_waits
            )
        except Refused as error:
            log.warning("finish_refused", code=error.code, reason=str(error))
            taken = False
        else:
            taken = True
        try:
            held.dir.mark_finished()
        except OSError as error:
            # After a restart it is delivered once more, which the relay answers like the first time.
            log.warning("finish_not_marked", error=str(error))
        return taken


def _keep(held: LocalJob, finish: FinishRequest) -> None:
    try:
        held.dir.put_finish(finish)
    except OSError as error:
        log.error("finish_not_on_disk", error=str(error))  # noqa: TRY400 - the cause is in the event


def _say_that_it_waits(error: CallError, delay_s: float) -> None:
    log.debug("finish_waits", reason=str(error), delay_s=round(delay_s, 1))
