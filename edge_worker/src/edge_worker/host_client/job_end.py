"""How a job's process ended: from its lock and its result file, so it is known without the host that started it."""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from edge_worker.processes.tree import has_rebooted, is_alive, stop_tree, supervisor_is_gone
from edge_worker.task_host import job_files

CHECK_EVERY_S = 0.5
_ORPHANS_GRACE_S = 5.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class JobResult:
    """How a job's process ended.

    Attributes:
        exit_code: Of the user code's process, negative for a signal; None if that is not known.
        final_state: The task's state according to its supervisor. The state that Airflow accepted decides.
        error: Why there is no regular end, for people.
    """

    exit_code: int | None
    final_state: str | None
    error: str | None


class JobEnds:
    """Waits for the ends of jobs. A report of the host only makes it check earlier."""

    def __init__(self) -> None:
        self._reported: dict[str, asyncio.Event] = {}

    def report(self, job_dir: str) -> None:
        """The host reports that a job's process has ended."""
        if event := self._reported.get(job_dir):
            event.set()

    async def wait(self, job_dir: Path, on_exit: Callable[[], None] = lambda: None) -> JobResult:
        """Waits for the end of a job, which an earlier agent or host may have started.

        Args:
            job_dir: Its folder.
            on_exit: Called once the task's own process has exited, if its supervisor still waits for others.
        """
        has_exited = False
        reported = self._reported.setdefault(str(job_dir), asyncio.Event())
        try:
            while is_alive(job_dir):
                if supervisor_is_gone(job_dir):
                    await _stop_orphans(job_dir)
                    break
                if not has_exited and (has_exited := job_files.has_exited(job_dir)):
                    on_exit()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(CHECK_EVERY_S):
                        await reported.wait()
                    reported.clear()
        finally:
            self._reported.pop(str(job_dir), None)
        result = job_files.read_result(job_dir)
        return _end_without_result(job_dir) if result is None else JobResult(**asdict(result))


def was_claimed(job_dir: Path) -> bool:
    """Whether a process has claimed the job."""
    claim = job_files.read_claim(job_dir)
    return claim is not None and claim.pid != 0


async def _stop_orphans(job_dir: Path) -> None:
    """Stops user code whose supervisor was killed: it can report nothing any more, and no process would end it."""
    await stop_tree(
        job_dir,
        grace_s=_ORPHANS_GRACE_S,
        on_step=lambda step: _log.warning("orphans_stopped", extra={"step": step, "job_dir": str(job_dir)}),
    )


def _end_without_result(job_dir: Path) -> JobResult:
    """The result where no process was left to write one; the reason is also written to the task's log."""
    if not was_claimed(job_dir):
        return JobResult(None, None, "no process was ever started for this job")
    if has_rebooted(job_dir):
        reason = "the machine went down while the task ran"
    else:
        reason = "the supervisor was killed before it could report how the task ended"
    try:
        job_files.write_log_line(job_dir, f"The task has failed: {reason}")
    except OSError as error:
        _log.warning("log_line_not_written", extra={"reason": str(error)})
    return JobResult(None, None, reason)
