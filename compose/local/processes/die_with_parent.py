"""Run a program that must not outlive whoever started it: `python leash.py PARENT_PID PROGRAM ARGUMENT...`.

Started by its path, without anything but the standard library, because it precedes every program of the system. On
Linux the kernel sends the program SIGTERM when its parent has gone, even by SIGKILL; elsewhere it just runs.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def follow_parent(parent: int) -> None:
    """Ask for SIGTERM at the parent's death; leave at once if it has died before it could be asked for."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit("whoever started this has gone")


if __name__ == "__main__":
    follow_parent(int(sys.argv[1]))
    os.execv(sys.argv[2], sys.argv[2:])
