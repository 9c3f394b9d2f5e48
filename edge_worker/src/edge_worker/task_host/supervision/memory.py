"""Whether a process was killed for lack of memory, as far as this is visible without privileges."""

import resource
from pathlib import Path

_COUNTERS = Path("/proc/vmstat")
_KIB_PER_GIB = 1024 * 1024


class MemoryWatch:
    """Compares the machine's count of kills for lack of memory at the end of a job with the count at its start."""

    def __init__(self) -> None:
        self._before = _kills()

    def explain_kill(self) -> str:
        """An addition to "ended by SIGKILL"; empty unless memory is a likely cause."""
        now = _kills()
        if now is None or self._before is None:
            return ", perhaps for lack of memory"
        if now == self._before:
            return ""
        # The largest of all descendants that were waited for.
        used = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / _KIB_PER_GIB
        return (
            f", probably for lack of memory: it used up to {used:.2g} GiB, and meanwhile the kernel ended "
            f"{now - self._before} process(es) of this machine for that reason"
        )


def _kills() -> int | None:
    """The count since boot; None where the kernel does not provide it."""
    try:
        lines = _COUNTERS.read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), None)
