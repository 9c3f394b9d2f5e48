"""Accepts no jobs for a while after several in a row could not be started: each further one would fail as well."""

import asyncio
from dataclasses import dataclass, field

from edge_worker.jobs.registry import JobRegistry
from edge_worker.log import EventLog

IN_A_ROW = 3
FIRST_PAUSE_S = 30.0
LONGEST_PAUSE_S = 600.0
_CAUSE = "failing_starts"

log = EventLog("edge_worker.machine.failing_starts")


@dataclass
class FailingStarts:
    """Counts the starts that failed since one succeeded; a `StartWatch`.

    After a pause, one more failure begins a longer one.
    """

    table: JobRegistry
    _failed: int = field(default=0, init=False)
    _pauses: int = field(default=0, init=False)
    _reopening: asyncio.TimerHandle | None = field(default=None, init=False)

    def failed(self, reason: str) -> None:
        """A job could not be started."""
        self._failed += 1
        if self._failed < IN_A_ROW or self._reopening is not None:
            return
        pause_s = min(FIRST_PAUSE_S * 2**self._pauses, LONGEST_PAUSE_S)
        self._pauses = min(self._pauses + 1, 16)
        why = f"{self._failed} jobs in a row could not be started; the last one: {reason}"
        log.error("starts_failing", failed=self._failed, reason=reason, pause_s=pause_s)
        self.table.close_intake(_CAUSE, why)
        self._reopening = asyncio.get_running_loop().call_later(pause_s, self._reopen)

    def succeeded(self) -> None:
        """A job was started."""
        self._failed = self._pauses = 0
        self._reopen()

    def _reopen(self) -> None:
        timer, self._reopening = self._reopening, None
        if timer is not None:
            timer.cancel()
            self.table.open_intake(_CAUSE)
