"""Whether a process was killed for lack of memory, as far as that can be seen without rights."""

import resource
from pathlib import Path

_COUNTERS = Path("/proc/vmstat")
_KIB_PER_GIB = 1024 * 1024


class MemoryWatch:
    """Compares the machine's count of such kills at the end of a job with that at its start."""

    def __init__(self) -> None:
        self._before = _kills()

    def explain_kill(self) -> str:
        """What may be added to "ended by SIGKILL": nothing, unless memory is a likely cause."""
        now = _kills()
        if now is None or self._before is None:
            return ", perhaps for lack of memory"
        if now == self._before:
            return ""
        # Of all descendants that were waited for, the largest.
        used = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / _KIB_PER_GIB
        return (
            f", probably for lack of memory: it used up to {used:.2g} GiB, and meanwhile the kernel ended "
            f"{now - self._before} process(es) of this machine for that reason"
        )


def _kills() -> int | None:
    """Since boot; None where the kernel does not tell."""
    try:
        lines = _COUNTERS.read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), None)
