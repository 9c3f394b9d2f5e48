"""A supervisor process above a command: however the command ends, no process that it started stays behind."""

import asyncio
import os
import signal
import sys

from local.processes.die_with_parent import die_with_parent
from local.processes.orphans import adopt_orphans, wait_and_end_orphans

_FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_GRACE_S = 5.0


def continue_under_supervisor() -> None:
    """Fork: the parent becomes the supervisor, and the caller continues in the child, which is the command.

    Call it first: the process must have one thread and no event loop yet.

    The supervisor forwards signals, waits for the command, ends all processes that the command left behind, and exits
    with the command's status. The command leaves the terminal's process group, so Ctrl-C reaches it once, through the
    supervisor. If the supervisor is killed, the command gets SIGTERM.
    """
    supervisor = os.getpid()
    command = os.fork()
    if command == 0:
        os.setpgid(0, 0)
        die_with_parent(supervisor)
        return
    adopt_orphans()
    sys.exit(asyncio.run(_supervise(command)))


async def _supervise(command: int) -> int:
    loop = asyncio.get_running_loop()
    for signum in _FORWARDED:
        loop.add_signal_handler(signum, _forward, command, signum)
    return await wait_and_end_orphans(command, grace_s=_GRACE_S)


def _forward(command: int, signum: signal.Signals) -> None:
    try:
        os.kill(command, signum)
    except ProcessLookupError:
        return  # the command has ended; the supervisor is ending the processes that it left behind
