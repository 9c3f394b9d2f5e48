"""Run a program that must end when its parent ends: `python die_with_parent.py PARENT_PID PROGRAM ARGUMENT...`.

It is started by its path and needs the standard library only, because it starts every program of the system. On Linux
the kernel sends the program SIGTERM when its parent ends, even after SIGKILL. On other systems the program only runs.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int) -> None:
    """Request SIGTERM for the death of the parent. Exit if the parent died before this request."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit("the parent of this process has ended")


if __name__ == "__main__":
    die_with_parent(int(sys.argv[1]))
    os.execv(sys.argv[2], sys.argv[2:])
