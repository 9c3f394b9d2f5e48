"""Ends a job's processes when somebody wants it, but not while the task is reporting how it ended."""

import asyncio
from collections.abc import Awaitable

from edge_worker.jobs.registry import LocalJob
from edge_worker.log import EventLog
from edge_worker.processes.tree import is_alive, kill_tree, stop_tree
from edge_worker.task_host import job_files

_LOOK_EVERY_S = 0.2

log = EventLog("edge_worker.jobs.stop")


async def stop_when_wanted(held: LocalJob, *, grace_s: float) -> None:
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
            if await done_before(_stop(held, grace_s), held.final_write_begun):
                return
        else:
            # Between start and launch; whoever launches looks as well, but only once.
            await asyncio.sleep(_LOOK_EVERY_S)


async def _stop(held: LocalJob, grace_s: float) -> None:
    """What is frozen, or is about to be, must not run on for a grace."""
    reason = held.stop.reason if held.stop else ""

    def on_step(step: str) -> None:
        say(held, f"Edge worker stops this task ({reason}): {step}")

    if held.is_frozen or not await done_before(stop_tree(held.dir.path, grace_s=grace_s, on_step=on_step), held.frozen):
        await kill_tree(held.dir.path, on_step=on_step)


async def done_before(work: Awaitable[None] | Awaitable[bool], *events: asyncio.Event) -> bool:
    """Does the work unless one of the events comes first; whether it was done. What it raises then is raised."""
    doing = asyncio.ensure_future(work)
    coming = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait({doing, *coming}, return_when=asyncio.FIRST_COMPLETED)
        if doing.done():
            doing.result()
            return True
        doing.cancel()
        await asyncio.wait({doing})
        return False
    finally:
        for each in (doing, *coming):
            each.cancel()


def say(held: LocalJob, text: str) -> None:
    """A line in the task's log, for whoever wonders there why it ended."""
    log.info("job_stopping", step=text)
    tell(held, text)


def tell(held: LocalJob, text: str) -> None:
    """A line in the task's log."""
    try:
        job_files.write_log_line(held.dir.path, text, level="warning")
    except OSError as error:
        log.warning("log_line_not_written", error=str(error))
