"""Keeps an unforeseen error of one job from ending the others, which share a task group with it."""

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from edge_worker.log import EventLog

FAULT_PAUSE_S = 1.0
LONGEST_FAULT_PAUSE_S = 60.0
MAX_FAULTS = 6
"""After so many unexpected errors a job is no longer followed, but reported as failed once nothing of it runs."""

Work = Coroutine[Any, Any, None]

log = EventLog("edge_worker.jobs.crash_isolation")


async def isolate_errors(
    begin: Callable[[], Work], *, go_on: Callable[[], Work], give_up: Callable[[str], Work]
) -> None:
    """Does the work of one job to its end, however often it fails.

    Args:
        begin: The first try.
        go_on: What is left to do, as after a restart. It may fail itself.
        give_up: Takes the place of `go_on` after `MAX_FAULTS` errors; told the reason, in words for people.
    """
    faults, step = 0, begin
    while True:
        try:
            return await step()
        except Exception as error:
            faults += 1
            log.exception("job_fault", faults=faults)
            reason = f"the worker could not follow this job: {type(error).__name__}"
        await asyncio.sleep(min(FAULT_PAUSE_S * 2.0 ** (faults - 1), LONGEST_FAULT_PAUSE_S))
        step = go_on if faults < MAX_FAULTS else partial(give_up, reason)
