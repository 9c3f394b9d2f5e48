"""Orphans: processes whose parent has ended. A process that adopts them can end all that its program left behind."""

import asyncio
import ctypes
import os
import sys

from local.processes.process_table import ProcessEntry, kill_processes, process_family

_PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans() -> None:
    """Become the parent of orphaned descendants of this process. Linux only; elsewhere init becomes their parent."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


async def wait_and_end_orphans(program: int, *, grace_s: float = 0) -> int:
    """Wait for a child of this process, end all processes that it left behind, and return its exit status.

    This process must have called `adopt_orphans`, otherwise it does not find them. Orphans that end before the child
    are reaped.

    Args:
        program: Process id of the child.
        grace_s: How long the orphans may take to end without SIGKILL.
    """
    status = await asyncio.to_thread(_reap_until, program)
    await end_descendants(grace_s=grace_s)
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


async def end_descendants(*, grace_s: float = 0) -> None:
    """End every other process of this process's family; with SIGKILL after the grace period."""
    await kill_processes(_descendants(), grace_s=grace_s)
    await kill_processes(_descendants())  # those that were started in the meantime


def _descendants() -> dict[int, ProcessEntry]:
    """The family of this process, without this process."""
    return {pid: entry for pid, entry in process_family(os.getpid()).items() if pid != os.getpid()}


def _reap_until(program: int) -> int:
    while True:
        pid, status = os.waitpid(-1, 0)
        if pid == program:
            return status
