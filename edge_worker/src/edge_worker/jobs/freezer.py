"""Holds a job's processes still from its fence on, until the centre has said whether this worker still holds the job.

A worker cannot tell an outage of every relay, which fails nobody, from a cut of its own link, after which another copy
of the task may run. A copy that stands still is right in both cases.
"""

import asyncio
import time

from edge_schemas.wire.errors import ErrorCode
from edge_schemas.wire.polls import StartRequest
from edge_worker.jobs.lease import LOOK_EVERY_S, Lease
from edge_worker.jobs.registry import LocalJob, StopWish
from edge_worker.jobs.stop import tell
from edge_worker.log import EventLog
from edge_worker.processes.tree import freeze_tree, thaw_tree
from edge_worker.relay.call_result import NoAnswer, Refused
from edge_worker.relay.client import RelayClient
from edge_worker.relay.link import Link
from edge_worker.relay.retry import Backoff, until_final

ASK_CAP_S = 5.0
NOT_OURS = frozenset({ErrorCode.NOT_HOLDER, ErrorCode.JOB_ENDED})
"""Refusals after which nothing is to be reported of a job."""

log = EventLog("edge_worker.jobs.freezer")


class Freezer:
    """Freezes and thaws jobs.

    Args:
        incarnation: Of this run of the agent.
    """

    def __init__(self, client: RelayClient, link: Link, lease: Lease, incarnation: int) -> None:
        self._client = client
        self._link = link
        self._lease = lease
        self._incarnation = incarnation

    async def attend(self, held: LocalJob) -> None:
        """Sees to a job from before its launch until its processes are gone, when it is to be cancelled."""
        while True:
            await held.frozen.wait()
            frozen_at = _mark(held)
            async with asyncio.TaskGroup() as group:
                holding = group.create_task(freeze_tree(held.dir.path), name=f"hold-still-{held.id}")
                await self._until_allowed(held)
                holding.cancel()
            await _thaw(held, stood_s=max(0.0, time.time() - frozen_at))

    async def _until_allowed(self, held: LocalJob) -> None:
        """Returns once the job may go on, which one that is to stop never may, unless it has ended well."""
        asking = asyncio.create_task(self._ask(held), name=f"ask-{held.id}")
        try:
            while held.final_state is None and not asking.done():
                await asyncio.wait({asking}, timeout=LOOK_EVERY_S)
            if asking.done():
                asking.result()
        finally:
            asking.cancel()

    async def _ask(self, held: LocalJob) -> None:
        try:
            await until_final(lambda: self._confirm(held), pause=self._link.pause, backoff=Backoff(cap_s=ASK_CAP_S))
        except Refused as error:
            log.warning("hold_not_confirmed", code=error.code, reason=str(error))
            reason = f"the centre does not let it go on after a loss of contact: {error}"
            held.want_stop(StopWish(reason, drop=error.code in NOT_OURS, gives_back=True))
        if held.stop is not None:
            # It is killed as it stands.
            await asyncio.Event().wait()

    async def _confirm(self, held: LocalJob) -> None:
        """Asks whether this worker holds the job. That a poll was answered does not tell: no record may have been read.

        Raises:
            CallError: There is no answer that still holds.
        """
        while (left_s := self._lease.left_s(held)) <= 0:  # noqa: ASYNC110 - a clock sets no event
            await asyncio.sleep(LOOK_EVERY_S)
        asked_at = self._lease.now()
        await self._client.start(held.id, StartRequest(receipt=held.receipt, incarnation=self._incarnation))
        if self._lease.now() - asked_at >= left_s:
            raise NoAnswer("the answer took so long that the job may have been given up since")


def _mark(held: LocalJob) -> float:
    """Writes down that the job is frozen, and says so unless an earlier agent has; since when, by the wall clock."""
    frozen_at = held.dir.frozen_at()
    if frozen_at is not None:
        log.info("job_still_frozen", job=held.id)
        return frozen_at
    try:
        held.dir.mark_frozen()
    except OSError as error:
        log.warning("frozen_not_marked", error=str(error), means="the next agent would not know of it")
    log.warning("job_frozen", job=held.id, reason=held.frozen_because)
    tell(
        held,
        f"Edge worker freezes this task ({held.frozen_because}): it goes on once the centre confirms that this worker "
        "still holds it, and is killed otherwise",
    )
    return time.time()


async def _thaw(held: LocalJob, *, stood_s: float) -> None:
    tell(held, f"Edge worker: contact is back after the task stood still for {stood_s:.0f} s; the task goes on")
    await thaw_tree(held.dir.path)
    try:
        held.dir.unmark_frozen()
    except OSError as error:
        log.warning("frozen_not_unmarked", error=str(error), means="the next agent would freeze it and ask once more")
    held.thaw()
    log.info("job_thawed", job=held.id, stood_s=round(stood_s, 1))
