"""Run a program that must end with its parent: `python end_with_parent.py PARENT_PID PROGRAM ARGUMENT...`.

Started by its path; needs the standard library only. On Linux the kernel sends the program SIGTERM when its parent
ends, after SIGKILL too. On other systems the program is only started: the next start of `standalone` stops it.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def end_with_parent(parent: int) -> None:
    """Request SIGTERM for the end of the parent. Exit if the parent has ended already."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit("the parent of this process has ended")


if __name__ == "__main__":
    end_with_parent(int(sys.argv[1]))
    os.execv(sys.argv[2], sys.argv[2:])  # noqa: S606  # the purpose of this program
