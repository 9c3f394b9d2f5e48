"""Accepts jobs only while this machine's clock agrees with the relay's: logs, certificates and tokens depend on it."""

import asyncio
from dataclasses import dataclass, field

from edge_worker.jobs.registry import JobRegistry
from edge_worker.log import EventLog
from edge_worker.relay.clock_skew import ClockSkew

CHECK_EVERY_S = 2.0
REOPEN_RATIO = 0.9
"""The difference must be so much below the limit before jobs are accepted again."""
_CAUSE = "clock"

log = EventLog("edge_worker.machine.clock_watch")


@dataclass
class ClockWatch:
    """Opens and closes the intake.

    Attributes:
        skew: As measured.
        limit_s: The largest difference with which jobs are accepted.
    """

    skew: ClockSkew
    table: JobRegistry
    limit_s: float
    _is_wrong: bool = field(default=False, init=False)

    async def run(self) -> None:
        """Checks until cancelled."""
        while True:
            self.check()
            await asyncio.sleep(CHECK_EVERY_S)

    def check(self) -> None:
        """Opens or closes the intake."""
        seconds = self.skew.seconds
        if seconds is None:
            return
        if not self._is_wrong and abs(seconds) > self.limit_s:
            self._is_wrong = True
            log.error("clock_wrong", clock_skew_s=seconds, max_clock_skew_s=self.limit_s)
            side = "ahead of" if seconds > 0 else "behind"
            limit = f"more than {self.limit_s:g} s (max_clock_skew_s)"
            self.table.close_intake(_CAUSE, f"the worker's clock is {limit} {side} the relay's")
        elif self._is_wrong and abs(seconds) <= self.limit_s * REOPEN_RATIO:
            self._is_wrong = False
            log.info("clock_right", clock_skew_s=seconds)
            self.table.open_intake(_CAUSE)
