"""Stops handlers whose consumer has been out of contact for nearly as long as their queues tolerate.

Contact is the arrival of a poll at the relay. The consumer counts from when it sent the last poll that was answered,
which is earlier, by a clock that includes suspend. So a handler is stopped before another consumer gets its job.
"""

import asyncio
from collections.abc import Callable, Iterable

from edge_schemas.wire.worker_report import JobPhase
from edge_worker.client.ending import Stop, StopKind
from edge_worker.client.handling import Handling
from edge_worker.log import EventLog
from edge_worker.task_host.lease import now as boot_seconds

CHECK_EVERY_S = 0.5

log = EventLog("edge_worker.client.contact")


class ContactWatch:
    """Counts the silence of one consumer; the `Contact` of its polls."""

    def __init__(self, jobs: Iterable[Handling], *, clock: Callable[[], float] = boot_seconds) -> None:
        self._jobs = jobs
        self._clock = clock
        self._sent_at = clock()

    def now(self) -> float:
        """The time at which a poll is sent."""
        return self._clock()

    def renew(self, sent_at: float) -> None:
        """The poll has arrived. Checks first: a poll after a suspend would hide how long the silence was."""
        self.check()
        self._sent_at = max(self._sent_at, sent_at)

    def check(self) -> None:
        """Stops the handlers whose time is over."""
        silence_s = self._clock() - self._sent_at
        for one in self._jobs:
            after_s = one.job.offline.fence_after_s
            if one.phase is JobPhase.RUNNING and one.stopped is None and after_s is not None and silence_s >= after_s:
                tolerance = f"offline tolerance {one.job.offline.tolerance_s:g} s"
                reason = f"no contact with the relay for {silence_s:.0f} s ({tolerance})"
                log.warning("payload_fenced", job=one.id, reason=reason)
                one.stop(Stop(StopKind.RELEASED, reason))

    async def run(self) -> None:
        """Checks until cancelled."""
        while True:
            self.check()
            await asyncio.sleep(CHECK_EVERY_S)
