"""A process above the command: whatever becomes of the command, nothing that it started stays."""

import asyncio
import os
import signal
import sys

from local.processes.die_with_parent import follow_parent
from local.processes.process_table import adopt_orphans, end_of

_FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_GRACE_S = 5.0


def guarded() -> None:
    """Go on as a child of a guard. Call it first of all: there must be one thread and no event loop yet.

    The guard hands signals on, waits, takes away what is left and ends with the command's status. The command leaves
    the terminal's process group, so that Ctrl-C reaches it once, through the guard; if the guard is killed, the
    command is told to end.
    """
    guard = os.getpid()
    command = os.fork()
    if command == 0:
        os.setpgid(0, 0)
        follow_parent(guard)
        return
    adopt_orphans()
    sys.exit(asyncio.run(_watch(command)))


async def _watch(command: int) -> int:
    loop = asyncio.get_running_loop()
    for signum in _FORWARDED:
        loop.add_signal_handler(signum, _forward, command, signum)
    return await end_of(command, grace_s=_GRACE_S)


def _forward(command: int, signum: signal.Signals) -> None:
    try:
        os.kill(command, signum)
    except ProcessLookupError:
        return  # it has ended; what is left is being taken away
