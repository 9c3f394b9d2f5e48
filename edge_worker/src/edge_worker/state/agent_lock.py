"""Which process holds the lock of a state folder, without taking the lock."""

import re
from pathlib import Path

_PROC_LOCKS = Path("/proc/locks")
_LOCK = re.compile(r"FLOCK\s+ADVISORY\s+WRITE\s+(?P<pid>-?\d+)\s+\S+:(?P<inode>\d+)\s")


def lock_holder(state_dir: Path) -> int | None:
    """The process of the agent that runs on this folder; None if there is none, as far as this process can see.

    It is read from the kernel's list: an agent that starts at this moment must get the lock.

    Raises:
        OSError: The folder has no lock yet, or the system has no such list.
    """
    inode = (state_dir / "lock").stat().st_ino
    found = _LOCK.finditer(_PROC_LOCKS.read_text())
    return next((int(lock["pid"]) for lock in found if int(lock["inode"]) == inode), None)
