"""Signals to processes of a job, also to those of another user, which a task with `run_as_user` has."""

import os
import subprocess
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

_PROC = Path("/proc")
_SUDO_S = 10.0
"""Longest time for sudo, which may ask a directory service about the user."""


def send(number: int, pids: Iterable[int]) -> int:
    """Sends a signal; returns how many processes received it. May block for some seconds.

    `sudo` made the processes of another user, so it also lets this user signal them. A process that has ended does not
    count, nor does one that may not be signalled at all.
    """
    reached = 0
    denied: defaultdict[int, list[int]] = defaultdict(list)
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue
        except PermissionError:
            if (user := _user_of(pid)) is not None:
                denied[user].append(pid)
        else:
            reached += 1
    return reached + sum(_send_as(user, number, theirs) for user, theirs in denied.items())


def _user_of(pid: int) -> int | None:
    try:
        return (_PROC / str(pid)).stat().st_uid
    except OSError:
        return None


def _send_as(user: int, number: int, pids: list[int]) -> int:
    names = [str(pid) for pid in pids]
    command = ["sudo", "-n", "-u", f"#{user}", "kill", f"-{int(number)}", *names]
    try:
        sent = subprocess.run(command, check=False, capture_output=True, stdin=subprocess.DEVNULL, timeout=_SUDO_S)
    except (OSError, subprocess.TimeoutExpired):
        return 0
    return len(pids) if sent.returncode == 0 else 0
