"""Ends a job's processes when somebody wants it, but not while the task is reporting how it ended."""

import asyncio

from edge_worker.jobs import HeldJob
from edge_worker.log import EventLog
from edge_worker.process import is_alive, stop_tree
from edge_worker.runtime_side import job_files

_LOOK_EVERY_S = 0.2

log = EventLog("edge_worker.job_stop")


async def stop_when_wanted(held: HeldJob, *, grace_s: float) -> None:
    """Waits until the job is to end and ends it; returns when nothing is left to stop.

    Args:
        held: The job, from before its launch on.
        grace_s: Between SIGTERM and SIGKILL.
    """
    await held.stop_wanted.wait()
    while not held.gone.is_set():
        await held.no_final_write.wait()
        if held.final_state is not None:
            log.info("stop_not_needed", final_state=held.final_state)
            return
        if is_alive(held.dir.path):
            if await _climb_down(held, grace_s):
                return
        else:
            # Between start and launch; whoever launches looks as well, but only once.
            await asyncio.sleep(_LOOK_EVERY_S)


async def _climb_down(held: HeldJob, grace_s: float) -> bool:
    """The stop ladder. False if it was left because the task is just reporting its end."""
    reason = held.stop.reason if held.stop else ""
    async with asyncio.TaskGroup() as group:
        ladder = group.create_task(
            stop_tree(
                held.dir.path,
                grace_s=grace_s,
                on_step=lambda step: say(held, f"Edge worker stops this task ({reason}): {step}"),
            )
        )
        report = group.create_task(held.final_write_begun.wait())
        await asyncio.wait({ladder, report}, return_when=asyncio.FIRST_COMPLETED)
        has_ended = ladder.done()
        ladder.cancel()
        report.cancel()
    return has_ended


def say(held: HeldJob, text: str) -> None:
    """A line in the task's log, for whoever wonders there why it ended."""
    log.info("job_stopping", step=text)
    try:
        job_files.write_log_line(held.dir.path, text, level="warning")
    except OSError as error:
        log.warning("log_line_not_written", error=str(error))
