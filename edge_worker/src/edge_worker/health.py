"""Figures of this machine, for operators to look at."""

import os
import platform
from pathlib import Path
from shutil import disk_usage

from edge_schemas.polls import WorkerHealth, WorkerVersions
from edge_worker import __version__


def worker_versions(airflow: str | None) -> WorkerVersions:
    """What runs here."""
    return WorkerVersions(
        agent=__version__,
        python=platform.python_version(),
        airflow=airflow[:120] if airflow else None,
        platform=f"{platform.system()} {platform.release()} {platform.machine()}"[:120],
    )


def worker_health(state_dir: Path) -> WorkerHealth:
    """Load, memory and disk; what the machine does not tell is left out."""
    total, available = _memory()
    return WorkerHealth(
        load_1m=_load(),
        memory_total_bytes=total,
        memory_used_bytes=None if total is None or available is None else max(0, total - available),
        disk_free_bytes=_disk_free(state_dir),
    )


def _load() -> float | None:
    try:
        return round(os.getloadavg()[0], 2)
    except OSError:
        return None


def _disk_free(path: Path) -> int | None:
    try:
        return disk_usage(path).free
    except OSError:
        return None


def _memory() -> tuple[int | None, int | None]:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None, None
    values = {name: int(rest.split()[0]) * 1024 for name, _, rest in (line.partition(":") for line in lines) if rest}
    return values.get("MemTotal"), values.get("MemAvailable")
