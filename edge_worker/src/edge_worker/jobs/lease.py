"""The worker's half of the offline contract: the time without contact, and which jobs are frozen because of it.

Contact is the arrival of a poll at the centre. The worker counts from the time at which it *sent* the last answered
poll, which is earlier, by a clock that includes suspend. So it freezes a job before the centre gives it
up, unless `on_silence` is `continue`.
"""

import asyncio
import json
import math
import time
from collections.abc import Callable
from pathlib import Path

from edge_schemas.wire.worker_report import JobPhase
from edge_worker.files import write_atomically
from edge_worker.jobs.driver import JobDriver
from edge_worker.jobs.events import ContactLost
from edge_worker.jobs.registry import JobRegistry
from edge_worker.log import EventLog
from edge_worker.processes.tree import is_alive
from edge_worker.state.job_dir import JobDir
from edge_worker.task_host.job_files import boot_id
from edge_worker.task_host.lease import now as boot_seconds
from edge_worker.task_host.lease import read_lease

CHECK_EVERY_S = 0.5
WRITE_EVERY_S = 1.0

log = EventLog("edge_worker.jobs.lease")


class Lease:
    """When the last answered poll was sent, in memory and in the file that the supervisors of tasks read.

    Args:
        path: The file. A file of an earlier agent of this boot is used: its silence counts.
        clock: Seconds since boot.
    """

    def __init__(self, path: Path, *, clock: Callable[[], float] = boot_seconds) -> None:
        self._path = path
        self._clock = clock
        self._written_at = -math.inf
        found = read_lease(path)
        self._sent_at = None if found is None else min(found.sent_at, clock())

    def now(self) -> float:
        """The time at which a poll is sent, for `renew`."""
        return self._clock()

    def renew(self, sent_at: float) -> None:
        """The poll that was sent at this time has arrived."""
        if self._sent_at is not None and sent_at <= self._sent_at:
            return
        self._sent_at = sent_at
        # A file that is a second too old ends tasks at most a second too early.
        if self._clock() - self._written_at >= WRITE_EVERY_S:
            self._written_at = self._clock()
            self._write(sent_at)

    def silence_s(self, job_dir: JobDir) -> float:
        """Seconds without contact, for a job whose start was confirmed.

        If no contact of this boot is known, a launched job counts from its start, and other jobs have expired.
        """
        if self._sent_at is not None:
            return self._clock() - self._sent_at
        return _age_s(job_dir)

    def left_s(self, driver: JobDriver) -> float:
        """Seconds for which a job may continue without contact; 0 or less from its fence on."""
        after_s = driver.job.offline.fence_after_s
        return math.inf if after_s is None else after_s - self.silence_s(driver.dir)

    def _write(self, sent_at: float) -> None:
        try:
            write_atomically(self._path, json.dumps({"boot": boot_id(), "sent_at": sent_at}).encode(), durable=False)
        except OSError as error:
            log.warning("lease_not_written", error=str(error), means="tasks of a dead agent would stop too early")


class Fence:
    """Freezes jobs whose worker has been out of contact for nearly as long as their queues tolerate."""

    def __init__(self, table: JobRegistry, lease: Lease) -> None:
        self._table = table
        self._lease = lease

    async def run(self) -> None:
        """Check all jobs until cancelled. The period is short because `asyncio.sleep` does not count suspend."""
        while True:
            self.check_all()
            await asyncio.sleep(CHECK_EVERY_S)

    def now(self) -> float:
        """The time at which a poll is sent, see `Lease`."""
        return self._lease.now()

    def renew(self, sent_at: float) -> None:
        """See `Lease`. Checks first: a poll answered after a suspend would otherwise hide how long the silence was."""
        self.check_all()
        self._lease.renew(sent_at)

    def check_all(self) -> None:
        """Freeze the jobs whose fence has passed."""
        for driver in self._table:
            self.check(driver)

    def check(self, driver: JobDriver) -> None:
        """Freeze a job if its fence has passed."""
        reason = self.reason(driver)
        if reason is not None:
            driver.post(ContactLost(reason))

    def reason(self, driver: JobDriver) -> str | None:
        """Why a job must be frozen; None if its fence has not passed, or the job is frozen already."""
        now = driver.now
        # After an accepted final state the remaining processes decide nothing.
        if now.is_frozen or now.phase is not JobPhase.RUNNING or now.final_state is not None:
            return None
        if self._lease.left_s(driver) > 0 or _has_ended(driver.dir):
            return None
        reason = _reason(self._lease.silence_s(driver.dir), driver.job.offline.tolerance_s)
        log.warning("job_fenced", job=driver.id, reason=reason)
        return reason


def _reason(silence_s: float, tolerance_s: float) -> str:
    since = "since the machine was started" if math.isinf(silence_s) else f"for {silence_s:.0f} s"
    return f"no contact with the relay {since} (offline tolerance {tolerance_s:g} s)"


def _has_ended(job_dir: JobDir) -> bool:
    """Whether the job was launched and none of its processes is left. A job that cannot be examined may run."""
    try:
        return job_dir.was_launched and not is_alive(job_dir.path)
    except OSError:
        return False


def _age_s(job_dir: JobDir) -> float:
    """Seconds since the launch; infinite without one, and if that cannot be read."""
    try:
        started_at = job_dir.started_at() if job_dir.was_launched else None
    except OSError:
        started_at = None
    return math.inf if started_at is None else max(0.0, time.time() - started_at)
