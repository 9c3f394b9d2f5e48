"""Keeps the worker's disk from filling up: accepts no jobs while it is nearly full, and limits ended jobs."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from shutil import disk_usage

from edge_worker.jobs.registry import JobRegistry
from edge_worker.log import EventLog
from edge_worker.state.ended_jobs import EndedJobs

CHECK_EVERY_S = 2.0
TRIM_EVERY_S = 60.0
REOPEN_FACTOR = 1.1
"""So much more than the reserve must be free before jobs are accepted again."""
_CAUSE = "disk_space"
_MIB = 1024 * 1024

log = EventLog("edge_worker.machine.disk_watch")


def free_bytes(path: Path) -> int | None:
    """The disk space for the worker's user; None if it cannot be read."""
    try:
        return disk_usage(path).free
    except OSError:
        return None


@dataclass
class DiskWatch:
    """Checks the disk of the state folder.

    Attributes:
        reserve_bytes: With less than this free no jobs are accepted. Running jobs continue.
    """

    path: Path
    table: JobRegistry
    ended: EndedJobs
    reserve_bytes: int
    free: Callable[[Path], int | None] = free_bytes
    _is_low: bool = field(default=False, init=False)

    async def run(self) -> None:
        """Checks until cancelled."""
        async with asyncio.TaskGroup() as loops:
            loops.create_task(self._watch(), name="disk-space")
            loops.create_task(self._trim(), name="ended-jobs")

    def check(self) -> None:
        """Opens or closes the intake."""
        free = self.free(self.path)
        if free is None:
            return
        if not self._is_low and free < self.reserve_bytes:
            self._is_low = True
            log.error("disk_nearly_full", free_bytes=free, disk_reserve_bytes=self.reserve_bytes, path=str(self.path))
            reserve = f"{self.reserve_bytes / _MIB:.0f} MiB (disk_reserve_bytes)"
            self.table.close_intake(_CAUSE, f"the worker's disk is nearly full: less than {reserve} are free")
        elif self._is_low and free >= self.reserve_bytes * REOPEN_FACTOR:
            self._is_low = False
            log.info("disk_has_room", free_bytes=free)
            self.table.open_intake(_CAUSE)

    async def _watch(self) -> None:
        while True:
            self.check()
            await asyncio.sleep(CHECK_EVERY_S)

    async def _trim(self) -> None:
        while True:
            await asyncio.to_thread(self.ended.trim)
            await asyncio.sleep(TRIM_EVERY_S)
